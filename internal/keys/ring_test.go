package keys_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/keys"
)

func TestAPersonsKeyIsTheirsAloneAndNeverOverwritten(t *testing.T) {
	ring := keys.Ring(filepath.Join(t.TempDir(), "lockstep", "keys"))
	if list, err := ring.List(); err != nil || len(list) != 0 {
		t.Fatalf("a directory that is not there: %v, %v", list, err)
	}
	if _, err := ring.Read("anna"); !errors.Is(err, keys.ErrNoKey) {
		t.Errorf("a key that is not there: %v", err)
	}
	made, err := ring.New("anna")
	must(t, err)
	for path, want := range map[string]fs.FileMode{made.File: 0o600, string(ring): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	before, err := os.ReadFile(made.File)
	must(t, err)
	if _, err := ring.New("anna"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made again: %v", err)
	}
	if after, err := os.ReadFile(made.File); err != nil || string(after) != string(before) {
		t.Errorf("the key was overwritten: %v", err)
	}
	if read, err := ring.Read("anna"); err != nil || read.Key != made.Key || read.Signer.Public() != made.Key {
		t.Errorf("%+v, %v", read, err)
	}
}

func TestAListSaysWhichKeysCannotBeUsedAndShowsNoSeed(t *testing.T) {
	ring := keys.Ring(t.TempDir())
	for _, name := range []string{"anna", "ben@acme.org", "carla"} {
		_, err := ring.New(name)
		must(t, err)
	}
	must(t, os.Chmod(filepath.Join(string(ring), "ben@acme.org.key"), 0o644))
	seed, err := os.ReadFile(filepath.Join(string(ring), "carla.key"))
	must(t, err)
	broken := strings.TrimSpace(string(seed))[:40]
	must(t, os.WriteFile(filepath.Join(string(ring), "carla.key"), []byte(broken), 0o600))
	must(t, os.WriteFile(filepath.Join(string(ring), "notes.txt"), nil, 0o644))
	list, err := ring.List()
	must(t, err)
	if len(list) != 3 || list[0].Wrong != "" || !strings.Contains(list[1].Wrong, "chmod 600") || list[2].Wrong == "" {
		t.Errorf("%+v", list)
	}
	for _, k := range list {
		if strings.Contains(k.Wrong, broken[2:]) {
			t.Errorf("the seed is shown: %s", k.Wrong)
		}
	}
}

func TestANameThatLeavesTheDirectoryIsNone(t *testing.T) {
	ring := keys.Ring(t.TempDir())
	for _, name := range []string{"", ".", "..", "../anna", "a/b", `a\b`, " anna", "anna ", "ann\u00e4", "a\x00b", strings.Repeat("a", 129)} {
		if _, err := ring.New(name); err == nil || !strings.Contains(err.Error(), "cannot name a key") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
