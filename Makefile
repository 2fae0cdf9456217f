# make demo       phantom mammograms to marked mammograms, in demo/
# make detector   the detector's weights from phantoms alone; given again, it goes on where it stopped
# make test       lint, types, the order of imports and every test; on Python 3.12 and later with its coverage
# make campaign   kills, full disks, races and damaged files for every command: docs/trust.md, 40 minutes at most
# All make .venv themselves. PYTHON names another interpreter (3.11 to 3.13), JOBS the tests run at once;
# COVERAGE="--cov" asks for the coverage on Python 3.11 too, where it costs the tests about a third of their time.

PYTHON ?= python3
JOBS ?= 2
COVERAGE ?= $(shell $(PYTHON) -c 'import sys; print("--cov --cov-report=term:skip-covered" * (sys.version_info >= (3, 12)))')
PIP = .venv/bin/python -m pip --disable-pip-version-check --quiet
MMGKERAS = .venv/bin/mmgkeras
SEED ?= 1
DEMO ?= demo
DEMO_PATIENTS ?= 50

DETECTOR ?= detector
DETECTOR_PATIENTS ?= 600
DETECTOR_WEIGHTS = mmgkeras/models/detector_weights

.PHONY: campaign demo detector test lint clean

demo: .venv/installed
	rm -rf $(DEMO)
	$(MMGKERAS) phantom --out $(DEMO)/data --patients $(DEMO_PATIENTS) --seed $(SEED) --spacing-mm 0.2 --twins
	$(MMGKERAS) prepare --data $(DEMO)/data --out $(DEMO)/store --config configs/demo.toml
	$(MMGKERAS) prepare --data $(DEMO)/data/twins --out $(DEMO)/twin-store --config configs/demo.toml
	$(MMGKERAS) split --store $(DEMO)/store --config configs/demo.toml
	$(MMGKERAS) fit --store $(DEMO)/store --fold 1 --config configs/demo.toml --set train.seed=$(SEED) \
	    --run $(DEMO)/runs/fold1 --export $(DEMO)/saved_models/phantom
	$(MMGKERAS) evaluate --model $(DEMO)/saved_models/phantom/1 --store $(DEMO)/store \
	    --twins $(DEMO)/twin-store --out $(DEMO)
	$(MMGKERAS) overlay --model $(DEMO)/saved_models/phantom/1 --data $(DEMO)/data --truth --threshold 0.9 --out $(DEMO)/overlays \
	    $$(awk -F, 'NR > 1 && NR < 14 { print "--image-id", $$1 }' $(DEMO)/mammograms.csv)

detector: .venv/installed
	[ -d $(DETECTOR)/data ] || $(MMGKERAS) phantom --out $(DETECTOR)/data --config configs/detector.toml \
	    --patients $(DETECTOR_PATIENTS) --seed 101 --spacing-mm 0.2 --spacing-mm 0.1
	[ -d $(DETECTOR)/store ] || $(MMGKERAS) prepare --data $(DETECTOR)/data --out $(DETECTOR)/store \
	    --config configs/detector.toml
	[ -f $(DETECTOR)/store/folds.csv ] || $(MMGKERAS) split --store $(DETECTOR)/store --config configs/detector.toml
	$(MMGKERAS) fit --store $(DETECTOR)/store --fold 1 --config configs/detector.toml --set train.seed=$(SEED) \
	    --run $(DETECTOR)/run --export $(DETECTOR)/saved_models/detector
	.venv/bin/python benchmarks/pack_detector.py --model $(DETECTOR)/saved_models/detector/1 \
	    --data $(DETECTOR)/data --out $(DETECTOR_WEIGHTS)
	[ -d $(DETECTOR)/data-finer ] || { mkdir $(DETECTOR)/data-finer && cd $(DETECTOR)/data-finer && \
	    ln -s ../data/images images && cp ../data/phantom.json . && \
	    awk -F, 'NR == 1 || $$8 == 0.1' ../data/images.csv > images.csv && \
	    awk -F, 'NR == FNR { fine[$$1]; next } $$1 in fine' images.csv ../data/regions.csv > regions.csv; }
	[ -d $(DETECTOR)/store-finer ] || $(MMGKERAS) prepare --data $(DETECTOR)/data-finer \
	    --out $(DETECTOR)/store-finer --config configs/detector-finer.toml
	[ -f $(DETECTOR)/store-finer/folds.csv ] || $(MMGKERAS) split --store $(DETECTOR)/store-finer \
	    --config configs/detector-finer.toml
	$(MMGKERAS) fit --store $(DETECTOR)/store-finer --fold 1 --config configs/detector-finer.toml \
	    --run $(DETECTOR)/run-finer --export $(DETECTOR)/saved_models/finer
	for looks in randomised plain; do for mm in 0.2 0.1; do [ -d $(DETECTOR)/unseen-$$looks-$$mm ] || $(MMGKERAS) phantom \
	    --looks $$looks --out $(DETECTOR)/unseen-$$looks-$$mm --config configs/detector.toml --patients 20 --seed 900 \
	    --spacing-mm $$mm; done; done
	.venv/bin/python benchmarks/pack_detector.py --model $(DETECTOR)/saved_models/detector/1 --data $(DETECTOR)/data \
	    --finer $(DETECTOR)/saved_models/finer/1 --finer-data $(DETECTOR)/data-finer \
	    $(foreach kind,randomised-0.2 randomised-0.1 plain-0.2 plain-0.1,--unseen $(DETECTOR)/unseen-$(kind)) \
	    --out $(DETECTOR_WEIGHTS)

test: lint
	.venv/bin/python -m pytest -n $(JOBS) --expected-skips tests/expected_skips.txt $(COVERAGE)

campaign: .venv/installed-dev
	.venv/bin/python -m benchmarks.campaign --jobs $(JOBS)

lint: .venv/installed-dev
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache --no-logo

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) install -c constraints.txt -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(PIP) install -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf .venv $(DEMO)
