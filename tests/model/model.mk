# The models, on their own; `make check` runs them too. Included from the Makefile.
.PHONY: model
model: ## check the models of the protocols, and that each mutant is refuted
	@tools/deps/install.sh check
	@tests/model/run
