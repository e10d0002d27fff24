package embedded_test

import (
	"testing"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m, bustest.LeftBehind()...) }
