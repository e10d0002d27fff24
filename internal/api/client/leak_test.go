package client_test

import (
	"testing"

	"github.com/lockstep-dev/lockstep/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
