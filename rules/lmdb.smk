# Lists → LMDBs of Datum records


rule lmdb:
    input:
        list=f"{DATA}/{{split}}.txt",
        lists=f"{DATA}/lists.json",
        manifest=f"{DATA}/manifest.csv",
    output:
        lmdb=directory(f"{DATA}/{{split}}_lmdb"),
        info=f"{DATA}/{{split}}_lmdb.json",
    log:
        f"{RESULTS}/logs/lmdb_{{split}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/lmdb_{{split}}.tsv"
    conda:
        CONDA
    container:
        CONTAINER
    threads: 8
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        settings=as_param(
            stages.LMDB,
            lmdb=CONFIG["lmdb"],
            scan=CONFIG["scan"],
            seed=CONFIG["split"]["seed"],
        ),
        # Not an output: what was decoded before a change must outlive it.
        store=lambda w, output: str(Path(output.lmdb).parent / "lmdb" / w.split),
    message:
        "Writing {output.lmdb}"
    script:
        "../scripts/lmdb.py"
