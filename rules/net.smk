# Published nets and weights → nets for these labels, solver, transfer table


rule convert_weights:
    input:
        package=lambda w: f"{RESOURCES}/packages/{CARDS[w.net]['package']}",
        net=lambda w: ancient(net_file(w.net)),
    output:
        f"{RESOURCES}/weights/{{net}}.caffemodel",
    log:
        f"{RESOURCES}/logs/convert_weights_{{net}}.log",
    benchmark:
        f"{RESOURCES}/benchmarks/convert_weights_{{net}}.tsv"
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        settings=lambda w: as_param(
            stages.WEIGHTS, card=CARDS[w.net], net=digest(net_file(w.net))
        ),
    message:
        "Converting the weights of {wildcards.net} to a caffemodel"
    script:
        "../scripts/convert_weights.py"


rule fetch_weights:
    output:
        weights=f"{RESOURCES}/weights/published/{{source}}.caffemodel",
        note=f"{RESOURCES}/weights/published/{{source}}.json",
    log:
        f"{RESOURCES}/logs/fetch_weights_{{source}}.log",
    benchmark:
        f"{RESOURCES}/benchmarks/fetch_weights_{{source}}.tsv"
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(240),
    params:
        # Where the file lies matters only where its content isn't known.
        settings=lambda w: as_param(
            stages.WEIGHTS, file=SOURCES[w.source].file, content=SOURCES[w.source].key
        ),
        source=lambda w, output: asdict(SOURCES[w.source]),
    message:
        "Fetching the weights {wildcards.source}"
    script:
        "../scripts/fetch_weights.py"


rule patch:
    input:
        net=lambda w: ancient(net_file(RUNS[w.run]["net"])),
        labels=f"{FOLD_DATA}/labels.txt",
        train=f"{FOLD_DATA}/train_lmdb.json",
        val=f"{FOLD_DATA}/val_lmdb.json",
        weights=lambda w: weights_of(w.run),
    output:
        train_val=f"{FOLD}/{{run}}/train_val.prototxt",
        deploy=f"{FOLD}/{{run}}/deploy.prototxt",
        info=f"{FOLD}/{{run}}/net.json",
        layers=shown(
            f"{FOLD}/{{run}}/layers.csv", "layers", "Net", **OF_RUN, file="layers"
        ),
    log:
        f"{FOLD}/{{run}}/logs/patch.log",
    benchmark:
        f"{FOLD}/{{run}}/benchmarks/patch.tsv"
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        settings=lambda w: as_param(
            stages.PATCH,
            dataset=CONFIG["dataset"],
            # The nets name the LMDBs by their paths.
            data=filled(FOLD_DATA, w),
            files=[
                digest(f) for f in (net_file(RUNS[w.run]["net"]), *weights_of(w.run))
            ],
            mean=filled((mean_of(w.run) or [""])[0], w),
            run=some(w.run, *PATCH_KEYS),
        ),
    message:
        f"Patching the net of run {RUN}"
    script:
        "../scripts/patch.py"


rule solver:
    input:
        net=f"{FOLD}/{{run}}/train_val.prototxt",
        train=f"{FOLD_DATA}/train_lmdb.json",
        val=f"{FOLD_DATA}/val_lmdb.json",
        rate=lambda w: rate_of(w.run),
    output:
        f"{FOLD}/{{run}}/solver.prototxt",
    log:
        f"{FOLD}/{{run}}/logs/solver.log",
    benchmark:
        f"{FOLD}/{{run}}/benchmarks/solver.tsv"
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        settings=lambda w: as_param(stages.SOLVER, run=some(w.run, *SOLVER_KEYS)),
        prefix=f"{FOLD}/{{run}}/snapshots/snap",
    message:
        f"Writing the solver of run {RUN}"
    script:
        "../scripts/solver.py"
