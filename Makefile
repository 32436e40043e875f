# What CI does is in .ci/run; these are shorthands.

.PHONY: test race long lint bench ci

test:
	go test ./...

race:
	go test -race -count=20 -cpu=1,2,8 ./...

long:
	EPORE_LONG=1 go test -count=1 -timeout 20m . ./backend/...

lint:
	.ci/run format vet staticcheck

bench:
	go test -run '^$$' -bench . -count=5 .

ci:
	.ci/run
