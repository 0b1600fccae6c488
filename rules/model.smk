# A trained run → model/, the folder that its user ships


rule model:
    input:
        run=expand("{results}/{{run}}/{name}", results=RESULTS, name=MODEL_RUN),
        data=[f"{DATA}/{name}" for name in MODEL_DATA],
        mean=lambda w: mean_of(w.run),
    output:
        expand("{results}/{{run}}/model/{name}", results=RESULTS, name=model.FILES),
    log:
        f"{RESULTS}/{{run}}/logs/model.log",
    benchmark:
        f"{RESULTS}/{{run}}/benchmarks/model.tsv"
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        settings=lambda w: as_param(
            stages.MODEL,
            dataset=CONFIG["dataset"],
            title=CONFIG["title"],
            report={key: CONFIG["report"][key] for key in ("description", "note")},
            lmdb={key: CONFIG["lmdb"][key] for key in model.RECORD},
            scan={key: CONFIG["scan"][key] for key in ("background", "max_pixels")},
            run=some(w.run, *MODEL_KEYS),
        ),
    message:
        "Packing the model of {wildcards.run}"
    script:
        "../scripts/model.py"
