# Each fold's report and runs → report.html and summary.txt of all, folds.json, runs.csv, groups.csv


# As the report is.
localrules:
    folds,


rule folds:
    input:
        reports=expand("{results}/{fold}/report.html", results=RESULTS, fold=FOLDS),
        runs=expand(
            "{results}/{fold}/{run}/{name}",
            results=RESULTS,
            fold=FOLDS,
            run=RUNS,
            name=("predictions.csv", "metrics.json", "train.json", "train.csv"),
        ),
        linear=expand(
            "{results}/{fold}/{run}/linear.json",
            results=RESULTS,
            fold=FOLDS,
            run=linear_baselines(),
        ),
    output:
        report=shown(f"{RESULTS}/report.html", "report", "Report", file="report"),
        summary=f"{RESULTS}/summary.txt",
        pooled=f"{RESULTS}/folds.json",
        sums=f"{RESULTS}/SHA256SUMS",
        tables=[
            shown(f"{RESULTS}/{name}.csv", "runs", "Report", file=name)
            for name in ("runs", "groups")
        ],
    log:
        f"{RESULTS}/logs/folds.log",
    benchmark:
        f"{RESULTS}/benchmarks/folds.tsv"
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=memory(2000, kilobytes=4),
        runtime=minutes(30),
    params:
        settings=as_param(
            stages.REPORT,
            # As for a fold's own report.
            versions=versions(),
            files=sorted(USER_FILES.values()),
            pictures=PICTURES,
            config=CONFIG,
            folds=FOLDS,
        ),
    message:
        "Putting the folds together"
    script:
        "../scripts/folds.py"
