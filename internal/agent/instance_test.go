package agent_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/connectortest"
	"github.com/lockstep-dev/lockstep/internal/connector/file"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// files opens a connector for files below a root.
func files(t *testing.T, root string, list ...file.File) *connector.Router {
	t.Helper()
	config := file.Config{Root: root, Files: list}
	c, err := file.Open("files", config, "", "test")
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	r, err := connector.NewRouter([]connector.Route{{Resources: config.Resources(), Connector: c}})
	must(t, err)
	return r
}

var dotenv = file.File{Path: ".env", Key: "upper-snake", Resources: []connector.Glob{"variable/*"}}

// text fails the test where a file does not hold exactly this.
func text(t *testing.T, path, want string) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	if string(b) != want {
		t.Errorf("%s holds %q, want %q", path, b, want)
	}
}

func TestAClashOfNamesIsCuredByRollbackAndARenameIsNone(t *testing.T) {
	w := newWorld(t)
	o, root := w.options(connectortest.NewFake("none")), t.TempDir()
	o.Router = files(t, root, dotenv)
	a := start(t, o)
	w.set("variable/log-level", `"a"`)
	w.applied(2)
	clash := w.set("variable/log_level", `"b"`)
	if ack := w.word(events.WordFailed, 3); ack.Reason != connector.ReasonValueUnsupported || !strings.Contains(ack.Message, "variable/log-level") {
		t.Errorf("ack %+v", ack)
	}
	text(t, filepath.Join(root, ".env"), "LOG_LEVEL=a\n")
	w.send(w.Rollback(clash)...)
	w.applied(4)
	w.set("variable/log-level", "", "variable/log_level", `"c"`)
	if ack := w.applied(5); len(ack.Differing) > 0 || !ack.ReadBack {
		t.Errorf("ack %+v", ack)
	}
	text(t, filepath.Join(root, ".env"), "LOG_LEVEL=c\n")
	a.stop()

	start(t, o) // where only what is to be there tells whose the place is
	w.set("variable/log-level", `"d"`, "variable/log_level", "")
	w.applied(6)
	text(t, filepath.Join(root, ".env"), "LOG_LEVEL=d\n")
}
