# Net, LMDB, weights → a curve of rates; with the solver → final.caffemodel, train.csv, a log as Caffe writes it


rule lr_range:
    input:
        net=f"{FOLD}/{{run}}/train_val.prototxt",
        info=f"{FOLD}/{{run}}/net.json",
        train=f"{FOLD_DATA}/train_lmdb",
        train_info=f"{FOLD_DATA}/train_lmdb.json",
        weights=lambda w: weights_of(w.run),
        mean=lambda w: mean_of(w.run),
    output:
        table=f"{FOLD}/{{run}}/lr_range.csv",
        note=f"{FOLD}/{{run}}/lr_range.json",
    log:
        f"{FOLD}/{{run}}/logs/lr_range.log",
    benchmark:
        f"{FOLD}/{{run}}/benchmarks/lr_range.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        CONTAINER
    threads: lambda w: RUNS[w.run]["threads"]
    resources:
        mem_mb=lambda w, attempt: needs.training(RUNS[w.run]["batch_size"], attempt),
        runtime=lambda w, attempt: needs.minutes(
            20,
            attempt,
            RUNS[w.run]["lr_range_iters"] * RUNS[w.run]["batch_size"],
            seconds=0.2,
        ),
        gpu=lambda w: gpus_of(w.run),
    params:
        settings=lambda w: as_param(stages.LR_RANGE, run=some(w.run, *LR_RANGE_KEYS)),
    message:
        f"Testing learning rates of {RUN}"
    script:
        "../scripts/lr_range.py"


rule train:
    input:
        net=f"{FOLD}/{{run}}/train_val.prototxt",
        solver=f"{FOLD}/{{run}}/solver.prototxt",
        info=f"{FOLD}/{{run}}/net.json",
        train=f"{FOLD_DATA}/train_lmdb",
        train_info=f"{FOLD_DATA}/train_lmdb.json",
        val=f"{FOLD_DATA}/val_lmdb",
        val_info=f"{FOLD_DATA}/val_lmdb.json",
        weights=lambda w: weights_of(w.run),
        mean=lambda w: mean_of(w.run),
    output:
        weights=f"{FOLD}/{{run}}/final.caffemodel",
        table=shown(
            f"{FOLD}/{{run}}/train.csv",
            "curve",
            "Training",
            **OF_RUN,
            file="learning curves",
        ),
        log=f"{FOLD}/{{run}}/train.log",
        result=f"{FOLD}/{{run}}/train.json",
    log:
        f"{FOLD}/{{run}}/logs/train.log",
    benchmark:
        f"{FOLD}/{{run}}/benchmarks/train.tsv"
    conda:
        lambda w: conda_of(w.run)
    container:
        CONTAINER
    threads: lambda w: cores_of(w.run)
    resources:
        mem_mb=lambda w, attempt: needs.training(RUNS[w.run]["batch_size"], attempt),
        runtime=lambda w, attempt: needs.minutes(
            30, attempt, pictures_seen(w.run), seconds=0.2
        ),
        gpu=lambda w: 0 if nodes_of(w.run) > 1 else gpus_of(w.run, devices_of(w.run)),
        # GPUs of each node; and the step on all of them is the training's own.
        gres=on_nodes(lambda run: f"gpu:{devices_of(run)}" if gpus_of(run) else None),
        nodes=on_nodes(nodes_of),
        tasks=on_nodes(nodes_of),
        # Otherwise SLURM's executor takes `tasks` for those of each GPU.
        tasks_per_gpu=on_nodes(lambda run: 0),
        mpi=on_nodes(lambda run: "srun"),
    params:
        settings=lambda w: as_param(stages.TRAIN, run=some(w.run, *TRAIN_KEYS)),
        # Not an output: what was trained before a break must outlive it.
        snapshots=f"{FOLD}/{{run}}/snapshots",
    message:
        f"Training {RUN}"
    script:
        "../scripts/train.py"
