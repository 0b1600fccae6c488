# Training LMDB → mean.binaryproto

if SHARDS > 1:

    # Of as many sums as there are shards.
    localrules:
        mean,

    rule mean_shard:
        input:
            shard_of("train", "{shard}") + "_lmdb",
        output:
            shard_of("mean", "{shard}") + ".npz",
        log:
            f"{FOLD}/logs/mean_{{shard}}.log",
        benchmark:
            f"{FOLD}/benchmarks/mean_{{shard}}.tsv"
        conda:
            CONDA
        container:
            CONTAINER
        threads: 1
        resources:
            mem_mb=memory(1000),
            runtime=minutes(10, seconds=0.005, jobs=SHARDS),
        params:
            settings=as_param(stages.MEAN),
            store=lambda w, output: f"{filled(FOLD_DATA, w)}/lmdb/{shards.name('train', w.shard, SHARDS)}",
        message:
            "Adding up the training records of {input}"
        script:
            "../scripts/mean_shard.py"


rule mean:
    input:
        (
            f"{FOLD_DATA}/train_lmdb"
            if SHARDS == 1
            else [shard_of("mean", i) + ".npz" for i in range(SHARDS)]
        ),
    output:
        f"{FOLD_DATA}/mean.binaryproto",
    log:
        f"{FOLD}/logs/mean.log",
    benchmark:
        f"{FOLD}/benchmarks/mean.tsv"
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=minutes(10, seconds=0.005),
    params:
        settings=as_param(stages.MEAN),
        # Where the job that wrote the records keeps their sum.
        store=lambda w, output: f"{filled(FOLD_DATA, w)}/lmdb/train",
    message:
        "Averaging the training records"
    script:
        "../scripts/mean.py"
