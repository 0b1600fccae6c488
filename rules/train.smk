# Net, solver, LMDBs, weights → final.caffemodel, train.csv, a log as Caffe writes it


rule train:
    input:
        net=f"{RESULTS}/{{run}}/train_val.prototxt",
        solver=f"{RESULTS}/{{run}}/solver.prototxt",
        info=f"{RESULTS}/{{run}}/net.json",
        train=f"{DATA}/train_lmdb",
        train_info=f"{DATA}/train_lmdb.json",
        val=f"{DATA}/val_lmdb",
        val_info=f"{DATA}/val_lmdb.json",
        weights=lambda w: weights_of(w.run),
        mean=lambda w: mean_of(w.run),
    output:
        weights=f"{RESULTS}/{{run}}/final.caffemodel",
        table=f"{RESULTS}/{{run}}/train.csv",
        log=f"{RESULTS}/{{run}}/train.log",
        result=f"{RESULTS}/{{run}}/train.json",
    log:
        f"{RESULTS}/{{run}}/logs/train.log",
    benchmark:
        f"{RESULTS}/{{run}}/benchmarks/train.tsv"
    conda:
        lambda w: conda_of(w.run)
    container:
        CONTAINER
    threads: lambda w: cores_of(w.run)
    resources:
        mem_mb=lambda w, attempt: needs.memory(
            4000, attempt, RUNS[w.run]["batch_size"], kilobytes=30000
        ),
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
        snapshots=f"{RESULTS}/{{run}}/snapshots",
    message:
        "Training {wildcards.run}"
    script:
        "../scripts/train.py"
