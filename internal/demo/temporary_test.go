package demo

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/lifecycle"
)

func TestADemoRemovesTheKeysThatAKilledOneLeftAndNothingElse(t *testing.T) {
	parent := t.TempDir()
	t.Setenv("TMPDIR", parent)
	alive := &demo{group: lifecycle.New(t.Context())}
	must(t, alive.temporary())
	for _, dir := range []string{"lockstep-demo-dead/keys", "other/keys"} {
		must(t, os.MkdirAll(filepath.Join(parent, dir), 0o700))
		must(t, os.WriteFile(filepath.Join(parent, dir, "op.key"), []byte("a private key"), 0o600))
	}
	must(t, os.Symlink(filepath.Join(parent, "other"), filepath.Join(parent, "lockstep-demo-link")))

	next := &demo{group: lifecycle.New(t.Context())}
	must(t, next.temporary())
	entries, err := os.ReadDir(parent)
	must(t, err)
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	want := []string{filepath.Base(alive.Dir), filepath.Base(next.Dir), "lockstep-demo-link", "other"}
	slices.Sort(want)
	if !slices.Equal(left, want) {
		t.Errorf("there are %q, want %q", left, want)
	}
	if _, err := os.Stat(filepath.Join(parent, "other", "keys", "op.key")); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(next.Dir); err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("%v, %v", info, err)
	}
	for _, d := range []*demo{alive, next} {
		must(t, d.group.Stop(t.Context()))
		if _, err := os.Stat(d.Dir); err == nil {
			t.Errorf("%s stays behind", d.Dir)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
