package credentials_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/lockstep-dev/lockstep/internal/bus/credentials"
	"github.com/lockstep-dev/lockstep/internal/keys"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// files are the paths of all files below a directory.
func files(t *testing.T, dir string) (paths []string) {
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			paths = append(paths, path)
		}
		return err
	}))
	return paths
}

func TestEveryFileIsItsOwnersAlone(t *testing.T) {
	data := t.TempDir()
	offline, err := credentials.Make(data)
	must(t, err)
	made := files(t, data)
	if len(made) < 10 {
		t.Errorf("only %v", made)
	}
	for _, path := range made {
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
	must(t, os.Remove(offline)) // nothing needs it
	_, err = credentials.Open(data)
	must(t, err)
	for _, path := range files(t, data) {
		if strings.HasSuffix(path, ".conf") || strings.HasSuffix(path, ".jwt") && !strings.HasSuffix(path, "operator.jwt") {
			continue // for the server to read
		}
		must(t, os.Chmod(path, 0o640))
		if _, err := credentials.Open(data); !errors.Is(err, keys.ErrExposed) {
			t.Errorf("%s is readable for others: %v", path, err)
		}
		must(t, os.Chmod(path, 0o600))
	}
}

func TestCredentialsAreMadeOnce(t *testing.T) {
	data := t.TempDir()
	if _, err := credentials.Open(data); !errors.Is(err, credentials.ErrNone) {
		t.Errorf("none there: %v", err)
	}
	_, err := credentials.Make(data)
	must(t, err)
	before, err := credentials.Open(data)
	must(t, err)
	if _, err := credentials.Make(data); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made twice: %v", err)
	}
	after, err := credentials.Open(data)
	must(t, err)
	if before.Operator() != after.Operator() {
		t.Error("another operator")
	}
	if left, _ := filepath.Glob(filepath.Join(data, "*.new-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAnAgentsCredentialsNameItsEnvironmentAndItselfOnly(t *testing.T) {
	data := t.TempDir()
	_, err := credentials.Make(data)
	must(t, err)
	a, err := credentials.Open(data)
	must(t, err)
	pair, err := nkeys.CreateUser()
	must(t, err)
	key, err := pair.PublicKey()
	must(t, err)
	encoded, err := a.Agent("prod-eu", "a1", key)
	must(t, err)
	claims, err := jwt.DecodeUserClaims(encoded)
	must(t, err)
	if claims.Subject != key || claims.BearerToken || claims.Resp != nil {
		t.Errorf("%+v", claims)
	}
	for _, subject := range append(claims.Sub.Allow, claims.Pub.Allow...) {
		named := strings.Contains(subject, "prod-eu") || subject == "lockstep.pulse" ||
			subject == "lockstep.api.CONSUMER.MSG.NEXT.RELEASES.*" || subject == "lockstep.api.CONSUMER.DELETE.RELEASES.*"
		if !named || strings.HasPrefix(subject, "$") {
			t.Errorf("it may use %s", subject)
		}
	}
	seed, err := pair.Seed()
	must(t, err)
	for _, key := range []string{"", "nonsense", string(seed), "ABC" + key} {
		if _, err := a.Agent("prod-eu", "a1", key); err == nil || strings.Contains(err.Error(), string(seed)) {
			t.Errorf("%v", err)
		}
	}
}
