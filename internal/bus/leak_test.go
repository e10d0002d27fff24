package bus_test

import (
	"testing"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/leaktest"
)

// After every test nothing of this package runs any more.
func TestMain(m *testing.M) { leaktest.Main(m, bustest.LeftBehind()...) }
