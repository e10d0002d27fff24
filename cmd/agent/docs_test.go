package main

import (
	"testing"

	"github.com/lockstep-dev/lockstep/internal/console/consoletest"
)

func TestCommandsOnEveryPageFitTheProgram(t *testing.T) {
	consoletest.CheckPages(t, "../..", newRoot(&cli{}, nil))
}
