# Shorthands. What CI runs is in .ci/run.

.PHONY: test quick race long lint bench contract micro cross ci

# Before each commit: under 90 s on two processors.
quick:
	.ci/run quick

test:
	go test ./...

race:
	go test -race -count=20 -cpu=1,2,8 -timeout 60m ./...

long:
	EPORE_LONG=1 go test -count=1 -timeout 20m . ./backend/...

lint:
	.ci/run format vet staticcheck

# The whole comparison with other libraries, into docs/benchmarks: see bench/README.md.
# "make bench ONLY=echo" does a part, into a temporary folder.
bench:
ifneq ($(ONLY),)
	go -C bench run . -only '$(ONLY)'
else
	go -C bench run .
	go -C bench/programs run . -out ../../docs/benchmarks/programs.md
	go -C bench/files run . -out ../../docs/benchmarks/files.md
endif

# The index of the tests that hold the contract, from the tags in the tests.
contract:
	go run ./internal/house/contractindex

# The benchmarks of package epore, to compare before and after a change.
micro:
	go test -run '^$$' -bench 'Event|Register|Ready|PingPong|Wake/waiting' -benchtime 300x -count 5 -timeout 30m ./internal/micro
	go test -run '^$$' -bench 'Wake/coalesced' -count 5 ./internal/micro
	go test -run '^$$' -bench 'Overshoot' -benchtime 200x -count 5 ./internal/micro

# Every pair of "go tool dist list", with the tags.
cross:
	EPORE_CROSS=all .ci/run vet

ci:
	.ci/run
