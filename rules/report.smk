# Everything → report.html, summary.txt, runs.csv, groups.csv; provenance.json for each run, SHA256SUMS


rule report:
    input:
        data=[data_file(name) for name in REPORT_DATA],
        runs=expand("{results}/{run}/{name}", results=FOLD, run=RUNS, name=REPORT_RUN),
        nets=[net_file(row["net"]) for row in RUNS.values()],
        weights=[file for run in RUNS for file in weights_of(run)],
        linear=expand(
            "{results}/{run}/linear.json", results=FOLD, run=linear_baselines()
        ),
        heat_maps=expand(
            "{results}/{run}/heat_maps.json", results=FOLD, run=runs_looked_at()
        ),
        lr_range=expand(
            "{results}/{run}/{name}",
            results=FOLD,
            run=[run for run in RUNS if rate_range.is_wanted(RUNS[run])],
            name=rate_range.FILES,
        ),
    output:
        report=shown(
            f"{FOLD}/report.html", "report", "Report", **OF_FOLD, file="report"
        ),
        summary=f"{FOLD}/summary.txt",
        tables=[
            shown(f"{FOLD}/{name}.csv", "runs", "Report", **OF_FOLD, file=name)
            for name in ("runs", "groups")
        ],
        sums=f"{FOLD}/SHA256SUMS",
        chains=expand("{results}/{run}/provenance.json", results=FOLD, run=RUNS),
    log:
        f"{FOLD}/logs/report.log",
    benchmark:
        f"{FOLD}/benchmarks/report.tsv"
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=memory(2000, kilobytes=4),
        runtime=minutes(30),
    params:
        settings=lambda w: as_param(
            stages.REPORT,
            # Whatever is new anywhere: a killed step leaves neither its result nor a note of what
            # had changed, but the report, not made since, still has its own.
            versions=versions(),
            files=sorted(USER_FILES.values()),
            pictures=PICTURES,
            config=config_of(w),
            weights={run: weights_of(run) for run in RUNS},
        ),
    message:
        "Writing the report"
    script:
        "../scripts/report.py"
