# The targets are the manual; see README.md.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PORT ?= 7860
# The images; lung masks, original sizes and originals of them lie beside.
DATA ?= ../shared/data/chest_xray
BESIDE = $(dir $(patsubst %/,%,$(DATA)))
MASKS ?= $(BESIDE)lung_masks
SIZES ?= $(BESIDE)original_sizes.csv
ORIGINALS ?= $(BESIDE)full_resolution

.PHONY: install develop app test check audit models prepared ablation reference systems screenshots space-check lock clean

# The environment alone: what the Space installs.
install: .venv/installed

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo \
	  "pneumo needs Python 3.11; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@# C++ headers: 287 MB that nothing here is compiled with.
	rm -rf .venv/lib/python3.11/site-packages/tensorflow/include
	touch $@

# What training and tests need beside it.
develop: .venv/developed

.venv/developed: requirements-dev.txt .venv/installed
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

app: install
	GRADIO_SERVER_PORT=$(PORT) .venv/bin/python app.py

test: develop
	.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: develop
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python tests/audit.py

# Whether an advisory is known of a pinned dependency.
audit: develop
	.venv/bin/python tests/audit.py

models: prepared
	.venv/bin/python -m training train --recipe teaching --system efficientnet_lite0
	.venv/bin/python -m training train --recipe distilled --seeds 0 1 2
	.venv/bin/python -m training train --seeds 0 1 2
	.venv/bin/python -m training bundle
	.venv/bin/python -m training gate $(if $(wildcard $(ORIGINALS)),--originals "$(ORIGINALS)")
	.venv/bin/python -m benchmarks saliency
	.venv/bin/python -m training evaluate --masks "$(MASKS)" \
	  $(if $(wildcard $(ORIGINALS)),--originals "$(ORIGINALS)") \
	  $(if $(wildcard runs/reference_bundle/manifest.json),--beside runs/reference_bundle)
	$(if $(wildcard runs/systems),.venv/bin/python -m training evaluate --systems)
	.venv/bin/python -m training cases --masks "$(MASKS)"
	.venv/bin/python -m benchmarks saliency --split test --masks "$(MASKS)"
	.venv/bin/python -m training compare
	.venv/bin/python -m training card
	.venv/bin/python -m training showcase

# What every training needs: the verified data, and the segmenter.
prepared: develop
	.venv/bin/python -m training data "$(DATA)" $(if $(wildcard $(SIZES)),--sizes "$(SIZES)")
	test -f runs/lungs/segmenter.json || .venv/bin/python -m training lungs --masks "$(MASKS)"

# How the recipe was chosen, and what the reference recipe reaches on the same split. Neither is needed for `models`.
ablation: prepared
	.venv/bin/python -m training ablation

reference: prepared
	.venv/bin/python -m training train --recipe reference
	.venv/bin/python -m training bundle --runs runs/reference --models runs/reference_bundle

# The systems of the field's reports that need no download, measured beside the bundle.
systems: prepared
	.venv/bin/python -m training train --system $$(.venv/bin/python -m training systems --trainable)
	.venv/bin/python -m training evaluate --systems
	.venv/bin/python -m training compare

# The pictures of the page in docs/.
screenshots: develop
	PYTHONPATH=.:tests .venv/bin/python tests/screenshots.py

# The folder that `training publish --space` would upload, installed and started as a Space does.
space-check: develop
	PYTHONPATH=. .venv/bin/python tests/space_check.py

lock: develop
	.venv/bin/uv pip compile --quiet --no-emit-index-url --no-emit-find-links --python-version 3.11 pyproject.toml -o requirements.txt \
	  --custom-compile-command "make lock"
	.venv/bin/uv pip compile --quiet --no-emit-index-url --no-emit-find-links --python-version 3.11 pyproject.toml --all-extras -c requirements.txt \
	  -o requirements-dev.txt --custom-compile-command "make lock"

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache
