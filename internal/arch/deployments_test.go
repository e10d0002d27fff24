package arch

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/lockstep-dev/lockstep/internal/keys"
)

// TestEveryDeploymentIsChecked names the test of every shipped file, so that none is added without one.
func TestEveryDeploymentIsChecked(t *testing.T) {
	checked := map[string]string{
		"Dockerfile":                          "TestTheDockerfileBuildsWhatIsThere",
		"compose/compose.yaml":                "TestComposeFitsTheImages",
		"nats/nats.conf":                      "TestTheShippedNATSServesLockstep",
		"nats/accounts.conf":                  "TestTheShippedNATSServesLockstep",
		"nats/cluster.conf":                   "TestTheShippedClusterIsThatOfThreeSuchServers",
		"prometheus/prometheus.yaml":          "TestTheScrapeConfigurationLoadsTheRules",
		"prometheus/lockstep.rules.yaml":      "TestEveryAlertUsesMetricsThatAreThereAndHasARunbook",
		"prometheus/lockstep.rules_test.yaml": "TestEveryAlertUsesMetricsThatAreThereAndHasARunbook",
		"grafana/lockstep.json":               "TestTheDashboardUsesMetricsThatAreThere",
		"systemd/lockstep-publisher.service":  "TestUnitsAreHardenedAndFitThePrograms",
		"systemd/lockstep-agent@.service":     "TestUnitsAreHardenedAndFitThePrograms",
		"systemd/lockstep.sysusers":           "TestUnitsAreHardenedAndFitThePrograms",
	}
	err := filepath.WalkDir("../../deployments", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel("../../deployments", path)
		if checked[name] == "" {
			t.Errorf("no test checks deployments/%s", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A commandLine is a program of ours with the verb and the flags that it is started with.
type commandLine struct {
	where, program, verb string
	flags                []string
}

func parseCommandLine(where string, words []string) commandLine {
	c := commandLine{where: where, program: filepath.Base(words[0])}
	for _, word := range words[1:] {
		name, _, _ := strings.Cut(word, "=")
		switch {
		case strings.HasPrefix(word, "--"):
			c.flags = append(c.flags, name)
		case c.verb == "":
			c.verb = word
		}
	}
	return c
}

// A unit is a systemd unit: section → directive → values.
type unit map[string]map[string][]string

func readUnit(t *testing.T, name string) unit {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../deployments/systemd", name))
	if err != nil {
		t.Fatal(err)
	}
	u, section := unit{}, ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = strings.Trim(line, "[]")
			u[section] = map[string][]string{}
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok || u[section] == nil {
				t.Fatalf("%s: %q is no directive of a section", name, line)
			}
			if !slices.Contains(directives[section], key) {
				t.Errorf("%s: [%s] %s is unknown to this test: is it spelled right?", name, section, key)
			}
			u[section][key] = append(u[section][key], value)
		}
	}
	return u
}

// directives are those that the units use (systemd.unit, systemd.service, systemd.exec); the list catches what is misspelled, which
// systemd only warns of.
var directives = map[string][]string{
	"Unit":    {"Description", "Documentation", "Wants", "After", "StartLimitIntervalSec"},
	"Install": {"WantedBy"},
	"Service": append([]string{
		"ExecStart", "Restart", "RestartSec", "TimeoutStopSec", "Environment", "LimitNOFILE", "DynamicUser", "User", "Group",
		"StateDirectory", "StateDirectoryMode", "RuntimeDirectory", "WorkingDirectory", "UMask", "ProcSubset", "PrivateUsers",
		"MemoryDenyWriteExecute", "AmbientCapabilities", "RestrictAddressFamilies", "SystemCallArchitectures", "SystemCallFilter", "CapabilityBoundingSet",
	}, hardening...),
}

// hardening are switches that every unit of ours has on.
var hardening = []string{
	"NoNewPrivileges", "ProtectHome", "ProtectClock", "ProtectHostname", "ProtectControlGroups", "ProtectKernelLogs", "ProtectKernelModules",
	"ProtectKernelTunables", "PrivateTmp", "PrivateDevices", "LockPersonality", "RemoveIPC", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID",
	"ProtectSystem", "ProtectProc",
}

var units = []string{"lockstep-publisher.service", "lockstep-agent@.service"}

func unitCommands(t *testing.T) (lines []commandLine) {
	for _, name := range units {
		for _, start := range readUnit(t, name)["Service"]["ExecStart"] {
			lines = append(lines, parseCommandLine(name, strings.Fields(start)))
		}
	}
	return lines
}

func TestUnitsAreHardenedAndFitThePrograms(t *testing.T) {
	users, err := os.ReadFile("../../deployments/systemd/lockstep.sysusers")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range units {
		service := readUnit(t, name)["Service"]
		want := map[string]string{"Restart": "on-failure", "ProtectSystem": "strict", "ProtectProc": "invisible", "CapabilityBoundingSet": "", "StateDirectoryMode": "0700"}
		for _, directive := range hardening {
			if want[directive] == "" {
				want[directive] = "yes"
			}
		}
		for directive, value := range want {
			if !slices.Equal(service[directive], []string{value}) {
				t.Errorf("%s: %s is %q, want %q", name, directive, service[directive], value)
			}
		}
		user := strings.Join(service["User"], "")
		if dynamic := slices.Equal(service["DynamicUser"], []string{"yes"}); dynamic == (user != "") || user == "root" {
			t.Errorf("%s: runs neither as a dynamic user nor as one of its own", name)
		}
		if user != "" && !regexp.MustCompile(`(?m)^u `+user+` `).Match(users) {
			t.Errorf("%s: lockstep.sysusers does not make %s", name, user)
		}
		if len(service["StateDirectory"]) != 1 || len(service["ExecStart"]) != 1 {
			t.Errorf("%s: want one state directory and one program", name)
		}
	}
}

// installed is a line of a unit's instructions: a file, where it goes, and whose it is there.
var installed = regexp.MustCompile(`(?m)^#   install -o (\S+) -g (\S+) -m (\d+) \S+ (\S+)$`)

func TestTheAgentCanReadItsEnrolmentAsItsUnitSaysToInstallIt(t *testing.T) {
	name := "lockstep-agent@.service"
	text, err := os.ReadFile(filepath.Join("../../deployments/systemd", name))
	if err != nil {
		t.Fatal(err)
	}
	service := readUnit(t, name)["Service"]
	start := strings.ReplaceAll(service["ExecStart"][0], "%i", "prod-eu")
	_, rest, _ := strings.Cut(start, "--enrolment ")
	enrolment, _, _ := strings.Cut(rest, " ")
	for _, line := range installed.FindAllStringSubmatch(string(text), -1) {
		user, mode, path := line[1], line[3], line[4]
		if !strings.Contains(start, " "+path+" ") {
			t.Errorf("%s is not what the unit starts the agent with", path)
		}
		if path != enrolment {
			continue
		}
		if want := service["User"][0]; user != want {
			t.Errorf("%s belongs to %s, the agent runs as %s", path, user, want)
		}
		bits, err := strconv.ParseUint(mode, 8, 32)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "enrolment")
		if err := os.WriteFile(file, nil, fs.FileMode(bits)); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.ReadEnrolment(file); errors.Is(err, keys.ErrExposed) || errors.Is(err, fs.ErrPermission) {
			t.Errorf("the agent does not read it: %v", err)
		}
		return
	}
	t.Errorf("the unit does not say how to install %s", enrolment)
}

// A composition is what compose.yaml may say; anything else is refused.
type composition struct {
	Name     string `yaml:"name"`
	Services map[string]struct {
		Image string `yaml:"image"`
		Build struct {
			Context    string `yaml:"context"`
			Dockerfile string `yaml:"dockerfile"`
			Target     string `yaml:"target"`
		} `yaml:"build"`
		Command     []string          `yaml:"command"`
		Environment map[string]string `yaml:"environment"`
		Volumes     []string          `yaml:"volumes"`
		Restart     string            `yaml:"restart"`
		Grace       string            `yaml:"stop_grace_period"`
		ReadOnly    bool              `yaml:"read_only"`
		CapDrop     []string          `yaml:"cap_drop"`
		Security    []string          `yaml:"security_opt"`
	} `yaml:"services"`
	Volumes map[string]*struct{} `yaml:"volumes"`
}

func readComposition(t *testing.T) (c composition) {
	t.Helper()
	b, err := os.ReadFile("../../deployments/compose/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

func composeCommands(t *testing.T) (lines []commandLine) {
	for name, s := range readComposition(t).Services {
		lines = append(lines, parseCommandLine("compose.yaml", append([]string{name}, s.Command...)))
	}
	return lines
}

func TestComposeFitsTheImages(t *testing.T) {
	c := readComposition(t)
	stages, _ := readDockerfile(t)
	for name, s := range c.Services {
		context := filepath.Join("../../deployments/compose", s.Build.Context)
		if _, err := os.Stat(filepath.Join(context, "go.mod")); err != nil {
			t.Errorf("%s: the build context is not the repository: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(context, s.Build.Dockerfile)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if stages[s.Build.Target] == nil {
			t.Errorf("%s: the Dockerfile has no stage %q", name, s.Build.Target)
		}
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.Security, "no-new-privileges:true") || s.Restart != "unless-stopped" {
			t.Errorf("%s is not hardened", name)
		}
		mounted := map[string]bool{}
		for _, volume := range s.Volumes {
			parts := strings.Split(volume, ":")
			mounted[parts[1]] = true
			if host := parts[0]; !strings.HasPrefix(host, "./") {
				if _, declared := c.Volumes[host]; !declared {
					t.Errorf("%s: the volume %s is not declared", name, host)
				}
			}
		}
		for _, arg := range s.Command {
			if _, file, ok := strings.Cut(arg, "=/etc/"); ok && !mounted["/etc/"+file] {
				t.Errorf("%s: %s is not mounted", name, arg)
			}
		}
	}
}

// A stage of a Dockerfile: instruction → arguments.
type stage map[string][]string

func readDockerfile(t *testing.T) (stages map[string]stage, order []string) {
	t.Helper()
	b, err := os.ReadFile("../../deployments/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	stages = map[string]stage{}
	var current stage
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		instruction, arguments, _ := strings.Cut(line, " ")
		if instruction == "FROM" {
			from, name, _ := strings.Cut(arguments, " AS ")
			current = stage{"FROM": {from}}
			stages[name] = current
			order = append(order, name)
			continue
		}
		current[instruction] = append(current[instruction], arguments)
	}
	return stages, order
}

func dockerfileCommands(t *testing.T) (lines []commandLine) {
	stages, _ := readDockerfile(t)
	for name, s := range stages {
		if len(s["ENTRYPOINT"]) == 1 {
			lines = append(lines, parseCommandLine("Dockerfile "+name, slices.Concat(jsonWords(s["ENTRYPOINT"][0]), jsonWords(s["CMD"][0]))))
		}
	}
	return lines
}

func jsonWords(list string) (words []string) {
	for _, quoted := range regexp.MustCompile(`"[^"]*"`).FindAllString(list, -1) {
		words = append(words, strings.Trim(quoted, `"`))
	}
	return words
}

func TestTheDockerfileBuildsWhatIsThere(t *testing.T) {
	stages, order := readDockerfile(t)
	if !slices.Equal(order, []string{"build", "publisher", "agent"}) {
		t.Fatalf("stages %v", order)
	}
	goMod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	image := strings.TrimSuffix(strings.TrimPrefix(stages["build"]["FROM"][0], "golang:"), "-alpine")
	if !strings.Contains(string(goMod), "\ngo "+image+".") {
		t.Errorf("the Dockerfile builds with Go %s, go.mod says otherwise", image)
	}
	for _, arguments := range stages["build"]["COPY"] {
		words := strings.Fields(arguments)
		for _, path := range words[:len(words)-1] {
			if _, err := os.Stat(filepath.Join("../..", path)); err != nil {
				t.Error(err)
			}
		}
	}
	for _, name := range order[1:] {
		s := stages[name]
		if s["FROM"][0] != "scratch" || !slices.Equal(s["USER"], []string{"65532:65532"}) {
			t.Errorf("%s: from %s as %s, want nothing but the program, and not root", name, s["FROM"], s["USER"])
		}
		if !strings.Contains(strings.Join(stages["build"]["RUN"], "\n"), "./cmd/"+name) {
			t.Errorf("%s is not built", name)
		}
	}
}

func TestEveryTaskIsDescribedAndRunsWhatIsThere(t *testing.T) {
	b, err := os.ReadFile("../../Taskfile.yml")
	if err != nil {
		t.Fatal(err)
	}
	var taskfile struct {
		Version string `yaml:"version"`
		Tasks   map[string]struct {
			Desc   string   `yaml:"desc"`
			Silent bool     `yaml:"silent"`
			Deps   []string `yaml:"deps"`
			Cmds   []string `yaml:"cmds"`
		} `yaml:"tasks"`
	}
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(&taskfile); err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("../../.ci/run")
	if err != nil {
		t.Fatal(err)
	}
	for name, task := range taskfile.Tasks {
		if task.Desc == "" || len(task.Cmds) == 0 {
			t.Errorf("task %s has no description or does nothing", name)
		}
		for _, dep := range task.Deps {
			if _, ok := taskfile.Tasks[dep]; !ok {
				t.Errorf("task %s depends on %s, which is not there", name, dep)
			}
		}
		for _, cmd := range task.Cmds {
			words := strings.Fields(cmd)
			if words[0] == ".ci/run" && len(words) > 1 && !regexp.MustCompile(`\b`+words[1]+`\b`).Match(script) {
				t.Errorf("task %s: .ci/run has no section %s", name, words[1])
			}
			for _, word := range words {
				if path, ok := strings.CutPrefix(word, "./"); ok && !strings.HasSuffix(path, "...") {
					if _, err := os.Stat(filepath.Join("../..", path)); err != nil {
						t.Errorf("task %s: %v", name, err)
					}
				}
			}
		}
	}
	for _, name := range []string{"build", "test", "test:race", "test:crash", "fuzz", "lint", "demo", "check"} {
		if _, ok := taskfile.Tasks[name]; !ok {
			t.Errorf("there is no task %s", name)
		}
	}
}
