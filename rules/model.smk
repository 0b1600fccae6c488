# A trained run → model/, the folder that its user ships; on request with model.onnx


rule model:
    input:
        run=expand("{results}/{{run}}/{name}", results=FOLD, name=MODEL_RUN),
        data=[data_file(name) for name in MODEL_DATA],
        mean=lambda w: mean_of(w.run),
    output:
        expand("{results}/{{run}}/model/{name}", results=FOLD, name=model.FILES),
    log:
        f"{FOLD}/{{run}}/logs/model.log",
    benchmark:
        f"{FOLD}/{{run}}/benchmarks/model.tsv"
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
            lmdb=model.record_settings(CONFIG["lmdb"]),
            scan={key: CONFIG["scan"][key] for key in ("background", "max_pixels")},
            run=some(w.run, *MODEL_KEYS),
        ),
    message:
        f"Packing the model of {RUN}"
    script:
        "../scripts/model.py"


rule onnx:
    input:
        deploy=f"{FOLD}/{{run}}/model/{model.NET}",
        weights=f"{FOLD}/{{run}}/model/{model.WEIGHTS}",
    output:
        f"{FOLD}/{{run}}/model/{model.ONNX}",
    log:
        f"{FOLD}/{{run}}/logs/onnx.log",
    benchmark:
        f"{FOLD}/{{run}}/benchmarks/onnx.tsv"
    conda:
        "../envs/torch.yaml"
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(20),
    params:
        version=stages.MODEL,
    message:
        f"Writing {RUN} as ONNX"
    script:
        "../scripts/export_onnx.py"
