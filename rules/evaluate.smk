# Weights → predictions.csv → metrics.json, heat_maps.json; the linear baseline


rule predict:
    input:
        weights=f"{FOLD}/{{run}}/final.caffemodel",
        deploy=f"{FOLD}/{{run}}/deploy.prototxt",
        info=f"{FOLD}/{{run}}/net.json",
        lmdb=f"{FOLD_DATA}/test_lmdb",
        list=f"{FOLD_DATA}/test.txt",
        labels=f"{FOLD_DATA}/labels.txt",
        mean=lambda w: mean_of(w.run),
    output:
        shown(
            f"{FOLD}/{{run}}/predictions.csv",
            "predictions",
            "Test",
            **OF_RUN,
            file="predictions",
        ),
    log:
        f"{FOLD}/{{run}}/logs/predict.log",
    benchmark:
        f"{FOLD}/{{run}}/benchmarks/predict.tsv"
    conda:
        lambda w: conda_of(w.run)
    container:
        CONTAINER
    threads: lambda w: RUNS[w.run]["threads"]
    resources:
        mem_mb=memory(3000, kilobytes=4),
        runtime=minutes(20, seconds=0.5),
        gpu=lambda w: gpus_of(w.run),
    params:
        settings=lambda w: as_param(
            stages.EVALUATE,
            seed=CONFIG["split"]["seed"],
            run=some(w.run, *PREDICT_KEYS, "test_crops"),
        ),
    message:
        f"Testing {RUN} on every test picture"
    script:
        "../scripts/predict.py"


rule metrics:
    input:
        f"{FOLD}/{{run}}/predictions.csv",
    output:
        shown(
            f"{FOLD}/{{run}}/metrics.json", "metrics", "Test", **OF_RUN, file="metrics"
        ),
    log:
        f"{FOLD}/{{run}}/logs/metrics.log",
    benchmark:
        f"{FOLD}/{{run}}/benchmarks/metrics.tsv"
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=memory(1000, kilobytes=4),
        runtime=minutes(10),
    params:
        settings=as_param(stages.EVALUATE),
    message:
        f"Counting hits and misses of {RUN}"
    script:
        "../scripts/metrics.py"


rule heat_maps:
    input:
        weights=f"{FOLD}/{{run}}/final.caffemodel",
        deploy=f"{FOLD}/{{run}}/deploy.prototxt",
        info=f"{FOLD}/{{run}}/net.json",
        predictions=f"{FOLD}/{{run}}/predictions.csv",
        lmdb=f"{FOLD_DATA}/test_lmdb",
        list=f"{FOLD_DATA}/test.txt",
        labels=f"{FOLD_DATA}/labels.txt",
        mean=lambda w: mean_of(w.run),
    output:
        f"{FOLD}/{{run}}/heat_maps.json",
    log:
        f"{FOLD}/{{run}}/logs/heat_maps.log",
    benchmark:
        f"{FOLD}/{{run}}/benchmarks/heat_maps.tsv"
    # Gradients are the built-in engine's, whichever engine the run has.
    conda:
        "../envs/torch.yaml"
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=memory(3000, kilobytes=4),
        runtime=minutes(20, seconds=0.01),
    params:
        settings=lambda w: as_param(
            stages.HEAT_MAPS,
            seed=CONFIG["split"]["seed"],
            report={"heat_maps": CONFIG["report"]["heat_maps"]},
            run=some(w.run, *PREDICT_KEYS),
        ),
    message:
        f"Looking where {RUN} looks"
    script:
        "../scripts/heat_maps.py"


rule linear:
    input:
        deploy=f"{FOLD}/{{run}}/deploy.prototxt",
        info=f"{FOLD}/{{run}}/net.json",
        weights=lambda w: weights_of(w.run),
        lmdbs=expand("{data}/{split}_lmdb", data=FOLD_DATA, split=inventory.SPLITS),
        mean=lambda w: mean_of(w.run),
    output:
        f"{FOLD}/{{run}}/linear.json",
    log:
        f"{FOLD}/{{run}}/logs/linear.log",
    benchmark:
        f"{FOLD}/{{run}}/benchmarks/linear.tsv"
    conda:
        lambda w: conda_of(w.run)
    container:
        CONTAINER
    threads: lambda w: RUNS[w.run]["threads"]
    resources:
        mem_mb=memory(3000, kilobytes=50),
        runtime=minutes(30, seconds=0.5),
        gpu=lambda w: gpus_of(w.run),
    params:
        settings=lambda w: as_param(stages.LINEAR, run=some(w.run, *PREDICT_KEYS)),
    message:
        "Fitting a linear classifier on frozen features"
    script:
        "../scripts/linear.py"
