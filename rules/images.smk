# Raw pictures → inventory → manifest → train.txt, val.txt, test.txt, labels.txt


rule fetch_package:
    output:
        f"{RESOURCES}/packages/{{package}}",
    log:
        f"{RESOURCES}/logs/fetch_{{package}}.log",
    benchmark:
        f"{RESOURCES}/benchmarks/fetch_{{package}}.tsv"
    retries: 1
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=minutes(60),
    params:
        package=lambda w: [w.package, *PACKAGES[w.package]],
    message:
        "Fetching {wildcards.package} from the package registry"
    script:
        "../scripts/fetch_package.py"


if CONFIG["images"]["package"]:

    localrules:
        unpack_pictures,
        inventory,

    rule unpack_pictures:
        input:
            f"{RESOURCES}/packages/{PICTURE_SET.PACKAGE}",
        output:
            directory(images()["root"]),
        log:
            f"{RESOURCES}/logs/unpack_pictures.log",
        benchmark:
            f"{RESOURCES}/benchmarks/unpack_pictures.tsv"
        conda:
            CONDA
        container:
            CONTAINER
        threads: 1
        resources:
            mem_mb=memory(1000),
            runtime=minutes(30),
        params:
            version=stages.SCAN,
            set=in_passing(CONFIG["images"]["package"]),
        message:
            "Unpacking the pictures of {input}"
        script:
            "../scripts/unpack_pictures.py"

    rule inventory:
        input:
            images()["root"],
        output:
            f"{DATA}/inventory.csv",
            f"{DATA}/classes.txt",
        log:
            f"{RESULTS}/logs/inventory.log",
        benchmark:
            f"{RESULTS}/benchmarks/inventory.tsv"
        conda:
            CONDA
        container:
            CONTAINER
        threads: 1
        resources:
            mem_mb=memory(1000),
            runtime=minutes(30),
        params:
            settings=as_param(stages.SCAN, images=images()),
        message:
            "Listing the pictures in {input}"
        script:
            "../scripts/inventory.py"


rule scan:
    input:
        inventory=f"{DATA}/inventory.csv",
    output:
        manifest=f"{DATA}/manifest.csv",
    log:
        f"{RESULTS}/logs/scan.log",
    benchmark:
        f"{RESULTS}/benchmarks/scan.tsv"
    conda:
        CONDA
    container:
        CONTAINER
    threads: many_threads
    resources:
        mem_mb=memory(2000, kilobytes=3),
        runtime=minutes(20, seconds=0.1),
    params:
        settings=as_param(
            stages.SCAN, scan=CONFIG["scan"], **record.seen_with(CONFIG["lmdb"])
        ),
        pictures=PICTURES,
        rejected=beside("rejected.csv"),
        # What it leaves for the LMDBs while it has a picture decoded is no result. What it looks at itself
        # is among the settings.
        lmdb=in_passing(CONFIG["lmdb"]),
    message:
        "Decoding every picture"
    script:
        "../scripts/scan.py"


rule split:
    input:
        manifest=f"{DATA}/manifest.csv",
        inventory=f"{DATA}/inventory.csv",
    output:
        lists=expand("{data}/{split}.txt", data=FOLD_DATA, split=inventory.SPLITS),
        labels=f"{FOLD_DATA}/labels.txt",
        classes=shown(
            f"{FOLD_DATA}/classes.csv", "classes", "Data", **OF_FOLD, file="classes"
        ),
        duplicates=shown(
            f"{FOLD_DATA}/duplicates.csv",
            "duplicates",
            "Data",
            **OF_FOLD,
            file="twins",
        ),
        lists_json=f"{FOLD_DATA}/lists.json",
    log:
        f"{FOLD}/logs/split.log",
    benchmark:
        f"{FOLD}/benchmarks/split.tsv"
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=memory(1000, kilobytes=4),
        runtime=minutes(10, seconds=0.01),
    params:
        settings=lambda w: as_param(
            stages.SPLIT, split=config_of(w)["split"], scan=CONFIG["scan"]
        ),
        rejected=in_passing(f"{DATA}/rejected.csv"),
    message:
        "Splitting into train, val and test"
    script:
        "../scripts/split.py"
