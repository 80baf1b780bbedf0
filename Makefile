# make demo · make test · make soak · make bench · make lint — each does its own set-up, which is skipped when done.
VENV     := .venv
PYTHON   := $(VENV)/bin/python
PIPELINE ?= torchvision
EXTRAS   := dev,knn,clip,timm

.PHONY: demo test soak bench lint setup clean
.DELETE_ON_ERROR:

demo: setup  ## make the digits and train on them
	$(PYTHON) tools/make_demo_data.py --out dataset/demo
ifeq ($(PIPELINE),ffcv)
	$(PYTHON) tools/convert_imagenet_to_ffcv.py --data dataset/demo
endif
	$(PYTHON) -m debiaspl.train --recipe demo --pipeline $(PIPELINE) --out runs/demo-$(PIPELINE) --resume auto

test: lint  ## the tests
	$(PYTHON) -m pytest

soak: setup  ## long counts (about ten minutes); writes bench/reports/soak_…md
	$(PYTHON) tests/soak/run.py

bench: setup  ## pixels of every pipeline, ways to resize, the loader with all its tables, the step, ranks, conversion
	$(PYTHON) -m bench parity
	$(PYTHON) -m bench resize
	$(PYTHON) -m bench loader --all
	$(PYTHON) -m bench step
	$(PYTHON) -m bench ranks
	$(PYTHON) -m bench convert --memory 1000 10000 100000

lint: setup  ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

setup: $(VENV)/.done

# One install per state of pyproject.toml.
$(VENV)/.done: pyproject.toml tools/install.sh
	tools/install.sh $(VENV) $(EXTRAS)
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
