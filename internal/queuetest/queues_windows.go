package queuetest

import (
	"github.com/epore/epore/backend"
	"github.com/epore/epore/backend/iocp"
)

var all = []Queue{{"iocp", func() backend.Backend { return iocp.New() }}}
