# Where rules run in an image, it must be there, and see what the workflow reads and writes. No rules.
import shlex

from recaffe import provenance
from recaffe.weights import cache


def folders_outside():
    """Folders of the workflow's files that a container doesn't see by itself: it sees the working one."""
    here = Path.cwd()
    given = [CONFIG["images"].get("path"), CONFIG["images"].get("label_names")]
    for split in inventory.SPLITS:
        given += (CONFIG["images"].get(split) or {}).values()
    files = [*filter(None, given), *USER_FILES]
    folders = [Path(f) if Path(f).is_dir() else Path(f).parent for f in files]
    folders += [Path(workflow.basedir), Path(RESULTS), Path(RESOURCES)]
    if SOURCES:
        folders += [cache.folder(), *source.local_folders(SOURCES.values())]
    # A link in the working folder leads outside, too.
    found = {Path(os.path.abspath(f)) for f in folders} | {f.resolve() for f in folders}
    return sorted(f for f in found if not f.is_relative_to(here.resolve()))


def show(folder):
    """Let containers see a folder, once: a job's own Snakemake is told what the main one added."""
    option = f" --bind {shlex.quote(str(folder))}"
    if option not in workflow.deployment_settings.apptainer_args:
        folder.mkdir(parents=True, exist_ok=True)
        workflow.deployment_settings.apptainer_args += option


if IN_IMAGE:
    if "://" not in CONTAINER and not Path(CONTAINER).exists():
        raise WorkflowError(
            f"There is no image {os.path.abspath(CONTAINER)}, which --use-singularity runs the rules in. `make images` "
            "builds docker/recaffe-cpu.sif; one that was built elsewhere can be copied there, or "
            "named: --config container=FILE."
        )
    # The image has no git.
    os.environ.setdefault(provenance.COMMIT, provenance.commit())
    for folder in folders_outside():
        show(folder)
