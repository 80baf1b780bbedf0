# make demo · test · soak · bench · wheelhouse · docs · lint — each does its own set-up, which is skipped when done.
VENV     := .venv
PYTHON   := $(VENV)/bin/python
EXTRAS   := dev,knn,clip,timm,export
PIPELINE ?= dali
PYTHON_VERSION ?= 3.12
PLATFORM ?= manylinux_2_28_x86_64

.PHONY: demo test soak bench wheelhouse docs lint setup clean
.DELETE_ON_ERROR:

demo: setup  ## make the digits and train on them; PIPELINE=torchvision, dali or ffcv
	$(PYTHON) tools/make_demo_data.py --out dataset/demo
ifeq ($(PIPELINE),ffcv)
	$(PYTHON) tools/convert_imagenet_to_ffcv.py --data dataset/demo
endif
	@pipeline=$(PIPELINE); \
	if [ $(origin PIPELINE) = file ] && ! $(PYTHON) -c 'import nvidia.dali' 2>/dev/null; then \
	    echo "DALI does not import here (no wheel?): the demo runs on --pipeline torchvision."; \
	    pipeline=torchvision; \
	fi; \
	$(PYTHON) -m debiaspl.train --recipe demo --pipeline $$pipeline --out runs/demo-$$pipeline --resume auto

test: lint  ## the tests
	$(PYTHON) -m pytest -n auto --dist loadfile --no-loadscope-reorder

soak: setup  ## long counts (an hour on two cores); writes bench/reports/soak_…md
	$(PYTHON) tests/soak/run.py

bench: setup  ## pixels of every pipeline, ways to resize, the loader with all its tables, the step, ranks, conversion
	$(PYTHON) -m bench parity
	$(PYTHON) -m bench resize
	$(PYTHON) -m bench loader --all
	$(PYTHON) -m bench step
	$(PYTHON) -m bench ranks
	$(PYTHON) -m bench convert --memory 1000 10000 100000

wheelhouse: setup  ## what python -m bench gpu needs beside torch, for a machine without registries
	$(PYTHON) tools/make_wheelhouse.py --python-version $(PYTHON_VERSION) --platform $(PLATFORM)

docs: $(VENV)/.docs-done  ## pages, reports and API reference as a site, build/site/docs/index.html; a warning is an error
	$(PYTHON) -m sphinx -q -n -W --keep-going -b html -c docs . build/site
	$(PYTHON) tools/check_site.py build/site

lint: setup  ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

setup: $(VENV)/.done

# One install per state of pyproject.toml and constraints.txt.
$(VENV)/.done: pyproject.toml constraints.txt tools/install.sh
	tools/install.sh $(VENV) $(EXTRAS)
	touch $@

$(VENV)/.docs-done: $(VENV)/.done
	$(VENV)/bin/pip install -q -c constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
