package main

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/api/apitest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/events/trusttest"
)

// Every script of these has a publisher of its own with dev, which this host reaches at $LOCKSTEP_SERVER and others at $FAR, whose
// certificate far.pem signs. anna has a key; the command signed makes a trust document the newest that knows her.
func TestScriptsFromOtherHosts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/far",
		Setup: func(env *testscript.Env) error {
			p := apitest.New(t)
			p.Must("op", ledger.AddEnvironment{Name: "dev", Approvals: 1})
			near, far := httptest.NewServer(api.New(api.Options{Backend: p})), httptest.NewTLSServer(api.New(api.Options{Backend: p, Beyond: true}))
			env.Defer(near.Close)
			env.Defer(far.Close)
			jar, err := cookiejar.New(nil)
			if err != nil {
				return err
			}
			browser := far.Client()
			browser.Jar = jar
			env.Values["publisher"], env.Values["browser"] = p, browser
			for name, value := range map[string]string{
				"LOCKSTEP_SERVER": near.URL, "FAR": far.URL, "LOCKSTEP_AS": "anna", "XDG_CONFIG_HOME": env.WorkDir + "/config", "XDG_RUNTIME_DIR": env.WorkDir,
				"HOME": env.WorkDir, "TERM": "xterm", "NO_COLOR": "", "CI": "", "GORACE": "atexit_sleep_ms=0",
			} {
				env.Setenv(name, value)
			}
			ring := filepath.Join(env.WorkDir, "config", "lockstep", "keys")
			if err := os.MkdirAll(ring, 0o700); err != nil {
				return err
			}
			if err := keys.WriteKey(filepath.Join(ring, "anna.key"), trusttest.Seed(t, "anna"), nil); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(env.WorkDir, "far.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: far.Certificate().Raw}), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "fetch": fetch,
			"signed": func(ts *testscript.TestScript, _ bool, _ []string) {
				ts.Value("publisher").(*apitest.Publisher).Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) {
					next := trusttest.Document(t, s.ID, s.Trust().Publishers...)
					next.Version, next.People = s.Trust().Version+1, []events.Person{trusttest.Person(t, "anna", events.RoleAuditor)}
					s.Trusts = append(s.Trusts, trusttest.Signed(t, next, "root 1"))
				})
			},
		},
	})
}

// fetch STATUS URL [FILE]: a browser, which keeps cookies, or a program with the token in a file, gets the status from there. What is no
// URL is a file that holds one.
func fetch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: fetch STATUS URL [FILE]")
	}
	url := args[1]
	if !strings.HasPrefix(url, "https://") {
		url = strings.TrimSpace(ts.ReadFile(url))
	}
	request, err := http.NewRequest(http.MethodGet, url, nil)
	ts.Check(err)
	client := *ts.Value("browser").(*http.Client)
	if len(args) == 3 {
		client.Jar = nil
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(ts.ReadFile(args[2])))
	}
	response, err := client.Do(request)
	ts.Check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	ts.Check(err)
	if strconv.Itoa(response.StatusCode) != args[0] {
		ts.Fatalf("%s: %s", response.Status, body)
	}
}
