# run test lint | caffe images | faults parity containers cluster browser docs (slower suites) | bench bench-gpu study. Each sets up what it needs in .venv/: nothing outside this folder is touched.
VENV := .venv
BIN := $(VENV)/bin
CORES ?= $(shell nproc)
PYTHON ?= python3.11
# Where `make caffe` builds and installs.
CAFFE ?= .caffe
# Set up anew when a pin changes.
READY := $(VENV)/ready-$(shell cat constraints.txt pyproject.toml | cksum | cut -d' ' -f1)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.PHONY: run test lint setup faults faults-nightly caffe caffe-cuda images parity containers cluster browser screenshots docs bench bench-gpu study envs proto dag clean
.DEFAULT_GOAL := run

run: $(READY)
	$(BIN)/snakemake --cores $(CORES) --configfile config/demo.yaml

test: $(READY)
	$(BIN)/pytest -n $(CORES) --dist worksteal $(PYTEST)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint --configfile config/demo.yaml
	$(BIN)/hadolint docker/Dockerfile

# Each kind of change, and what goes wrong.
faults: $(READY)
	$(BIN)/pytest -n $(CORES) --dist worksteal $(wildcard tests/workflow/faults tests/faults) $(PYTEST)

# The same with ten times the kills: docs/faults.md.
faults-nightly: export RECAFFE_FAULT_RUNS := 100
faults-nightly: faults

# Real BVLC Caffe 1.0, built into .caffe/ once for each state of its recipe: five minutes.
caffe:
	docker/caffe/build.sh $(CAFFE)

# The same for NVIDIA's GPUs, into .caffe/install-cuda; compiling needs no GPU. CUDA_ARCHS="8.6 9.0"
# narrows what it is compiled for: docs/caffe-build.md.
caffe-cuda:
	docker/caffe/build.sh $(CAFFE) cuda

# The torch engine beside real Caffe: layers, nets, solvers, files.
parity: $(READY) caffe
	CAFFE_HOME=$(abspath $(CAFFE))/install $(BIN)/pytest -n $(CORES) --dist worksteal tests/parity $(PYTEST)

# recaffe:cpu and recaffe:gpu for docker, podman or buildah, and of each a SIF; TARGETS="cpu gpu"
images: $(READY)
	PIP=$(BIN)/pip CAFFE=$(CAFFE) docker/images.sh $(TARGETS)

# The caffe engine, the images, the workflow in them, trainings in containers.
containers: $(READY) caffe images
	CAFFE_HOME=$(abspath $(CAFFE))/install CAFFE=$(CAFFE) PIP=$(BIN)/pip $(BIN)/pytest tests/containers $(PYTEST)

# The workflow on a real SLURM of three nodes on this machine, whose packages are installed if they can be.
cluster: $(READY)
	$(BIN)/pytest -n 2 --dist worksteal tests/cluster $(PYTEST)

# Report and server in the system's Chromium (RECAFFE_CHROMIUM names another): docs/report.md.
browser: $(READY)
	$(BIN)/pytest tests/browser $(PYTEST)

# The same, and docs/report.png and its siblings anew, of the demonstration's report.
screenshots: export RECAFFE_SCREENSHOTS := $(CURDIR)/docs
screenshots: $(READY) run
	$(BIN)/pytest tests/browser/test_screenshots.py $(PYTEST)

# The documentation as a site, in build/site, and its commands, run: docs/contributing.md.
docs: export NO_MKDOCS_2_WARNING := 1
docs: $(READY)
	$(BIN)/mkdocs build --strict --quiet
	$(BIN)/pytest tests/docs $(PYTEST)

# Each stage beside Caffe's own tools: bench/README.md. BENCH="data --runs 3" for a part.
bench: $(READY) caffe
	CAFFE_HOME=$(abspath $(CAFFE))/install $(BIN)/python -m bench $(BENCH)

# The torch engine on a CUDA card beside PyTorch by hand and Caffe's CUDA build: bench/README.md.
# BENCH="--nets resnet50 --precisions bf16" for a part; BENCH="--device cpu --quick" tries it without a card.
bench-gpu: $(READY)
	$(BIN)/python -m bench.gpu $(BENCH)

# Real trainings on picture sets from packages, three seeds, both engines: bench/results/studies.md. An hour.
study: $(READY) caffe
	CAFFE_HOME=$(abspath $(CAFFE))/install $(BIN)/python -m bench.study --cores $(CORES) $(STUDY)

setup: $(READY)

$(READY): constraints.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "recaffe needs Python 3.11, and there is no $(PYTHON). Install it, or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@# torch alone and first: its pin finds the small build for CPUs where one is offered.
	$(BIN)/pip install --quiet $$(grep '^torch==' constraints.txt)
	$(BIN)/pip install --quiet --editable '.[dev]'
	@rm -f $(VENV)/ready-*
	@touch $@

envs: $(READY)
	$(BIN)/python envs/lock.py

proto: $(READY)
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. recaffe/proto/caffe.proto

# The picture of the rules in docs/, from Graphviz's dot.
dag: $(READY)
	$(BIN)/snakemake --rulegraph --configfile config/demo.yaml | dot -Tsvg > docs/rulegraph.svg

clean:
	rm -rf $(VENV) .snakemake results resources
