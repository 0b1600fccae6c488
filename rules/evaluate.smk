# Weights → predictions.csv → metrics.json; the linear baseline


rule predict:
    input:
        weights=f"{RESULTS}/{{run}}/final.caffemodel",
        deploy=f"{RESULTS}/{{run}}/deploy.prototxt",
        info=f"{RESULTS}/{{run}}/net.json",
        lmdb=f"{DATA}/test_lmdb",
        list=f"{DATA}/test.txt",
        labels=f"{DATA}/labels.txt",
        mean=lambda w: mean_of(w.run),
    output:
        f"{RESULTS}/{{run}}/predictions.csv",
    log:
        f"{RESULTS}/{{run}}/logs/predict.log",
    benchmark:
        f"{RESULTS}/{{run}}/benchmarks/predict.tsv"
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
            run=some(w.run, *PREDICT_KEYS),
        ),
    message:
        "Testing {wildcards.run} on every test picture"
    script:
        "../scripts/predict.py"


rule metrics:
    input:
        f"{RESULTS}/{{run}}/predictions.csv",
    output:
        f"{RESULTS}/{{run}}/metrics.json",
    log:
        f"{RESULTS}/{{run}}/logs/metrics.log",
    benchmark:
        f"{RESULTS}/{{run}}/benchmarks/metrics.tsv"
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
        "Counting hits and misses of {wildcards.run}"
    script:
        "../scripts/metrics.py"


rule linear:
    input:
        deploy=f"{RESULTS}/{{run}}/deploy.prototxt",
        info=f"{RESULTS}/{{run}}/net.json",
        weights=lambda w: weights_of(w.run),
        lmdbs=expand("{data}/{split}_lmdb", data=DATA, split=inventory.SPLITS),
        mean=lambda w: mean_of(w.run),
    output:
        f"{RESULTS}/{{run}}/linear.json",
    log:
        f"{RESULTS}/{{run}}/logs/linear.log",
    benchmark:
        f"{RESULTS}/{{run}}/benchmarks/linear.tsv"
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
