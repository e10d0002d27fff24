package api_test

import (
	"testing"

	"go.uber.org/goleak"
)

// After every test nothing of this package runs any more.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
