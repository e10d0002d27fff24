package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/api/client"
)

func TestAKeyIsNotPutAmongThoseOfAPublisherThatHappensToRun(t *testing.T) {
	dir := t.TempDir()
	for name, value := range map[string]string{"XDG_RUNTIME_DIR": dir, "XDG_CONFIG_HOME": filepath.Join(dir, "config"), "LOCKSTEP_SERVER": "", "LOCKSTEP_AS": "", "LOCKSTEP_KEYS": ""} {
		t.Setenv(name, value)
	}
	remove, err := client.Advertise("http://127.0.0.1:1", filepath.Join(dir, "demo", "keys"))
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	var stdout, stderr strings.Builder
	for _, args := range [][]string{
		{"key", "new", "ben"},
		{"trust", "init", "--data", filepath.Join(dir, "data"), "--root-dir", filepath.Join(dir, "roots"), "--as", "anna"},
	} {
		if code := run(t.Context(), args, strings.NewReader(""), &stdout, &stderr); code != 0 {
			t.Fatalf("exit code %d: %s", code, stderr.String())
		}
	}
	for _, name := range []string{"anna", "ben"} {
		if _, err := os.Stat(filepath.Join(dir, "config", "lockstep", "keys", name+".key")); err != nil {
			t.Errorf("%v; it said:\n%s", err, stderr.String())
		}
	}
	if !strings.Contains(stderr.String(), "say --keys ") {
		t.Errorf("it does not say that the publisher that runs goes with other keys:\n%s", stderr.String())
	}
	if _, err := os.Stat(filepath.Join(dir, "demo")); err == nil {
		t.Error("the other publisher's directory of keys was written to")
	}
}
