//go:build unix && !linux

package pollfd

import (
	"time"

	"github.com/epore/epore/internal/kq"
)

var native = system{
	resolution:    time.Millisecond,
	newCaller:     func() caller { return posixCaller{} },
	newIdentities: func() identities { return identitiesOn(kq.Native(), statIdentities{identify}) },
}
