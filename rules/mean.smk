# Training LMDB → mean.binaryproto


rule mean:
    input:
        f"{DATA}/train_lmdb",
    output:
        f"{DATA}/mean.binaryproto",
    log:
        f"{RESULTS}/logs/mean.log",
    benchmark:
        f"{RESULTS}/benchmarks/mean.tsv"
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        settings=as_param(stages.MEAN),
    message:
        "Averaging the training records"
    script:
        "../scripts/mean.py"
