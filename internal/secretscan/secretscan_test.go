package secretscan

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/registry"
)

// rules is what is found in a value, as path and rule.
func rules(t testing.TB, key, value string) []string {
	t.Helper()
	var out []string
	for _, f := range Value(key, json.RawMessage(value), nil) {
		out = append(out, f.Path+": "+f.Rule)
	}
	return out
}

func TestSecretsAreFoundWhereverTheyStand(t *testing.T) {
	for _, c := range []struct{ key, value, want string }{
		{"connection/crm", `{"host":"crm","auth":{"password":"hunter2"}}`, `/auth/password: a literal under the name password`},
		{"connection/crm", `{"dbPassword2":"hunter2"}`, `/dbPassword2: a literal under the name dbPassword2`},
		{"connection/crm", `{"password":12345}`, `/password: a literal under the name password`},
		{"connection/crm", `{"apiKey":"0f1e2d3c-0000-4000-8000-000000000000"}`, `/apiKey: a literal under the name apiKey`},
		{"connection/crm", `{"tokens":[{"access_token":["a b1"]}]}`, `/tokens/0/access_token/0: a literal under the name access_token`},
		{"connection/crm", `{"X-API-Key":"abc"}`, `/X-API-Key: a literal under the name X-API-Key`},
		{"connection/crm", `{"a/b":{"client~secret":"x"}}`, `/a~1b/client~0secret: a literal under the name client~secret`},
		{"connection/crm", `{"passphrase":"correct horse battery staple"}`, `/passphrase: a literal under the name passphrase`},
		{"variable/POSTGRES_PASSWORD", `"changeit"`, `: a literal under the name POSTGRES_PASSWORD`},
		{"variable/DB_PASS", `"x"`, `: a literal under the name DB_PASS`},
		{"variable/dsn", `"postgres://shop:s3cr3t@db:5432/shop"`, `: a password in a URL`},
		{"variable/dsn", `"see amqp://:pass%40@mq and more"`, `: a password in a URL`},
		{"variable/dsn", `"Server=db;User Id=sa;Password=abc;"`, `: a password or token that is assigned in the text`},
		{"variable/line", `"password=hunter2"`, `: a password or token that is assigned in the text`},
		{"variable/hook", `"https://example.org/hook?token=abc123"`, `: a password or token that is assigned in the text`},
		{"document/tls", `{"pem":"-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\n"}`, `/pem: a private key`},
		{"endpoint/a", `{"headers":{"X-Auth":"Bearer abcdefgh12"}}`, `/headers/X-Auth: an authorization header`},
		{"variable/aws", `"AKIAQYLPMN5HHHFPZAM2"`, `: gitleaks rule aws-access-token`},
		{"variable/x", `"sk_live_4eC39HqLyjWDarjtT1zdp7dc"`, `: gitleaks rule stripe-access-token`},
		{"variable/x", `"ghp_9aB3dE6fG1hJ2kL4mN5pQ7rS8tU0vW3xY6zA"`, `: gitleaks rule github-pat`},
		{"document/settings", `"log: info\napi_key: 9aB3-dE6f.G1hJ-2kL4\n"`, `: gitleaks rule generic-api-key`},
		{"document/clients", `{"clients":{"sk_live_4eC39HqLyjWDarjtT1zdp7dc":{"password":"hunter2"}}}`, `/clients: the name of a member: gitleaks rule stripe-access-token`},
		{"document/clients", `{"postgres://shop:s3cr3t@db:5432/shop":1}`, `: the name of a member: a password in a URL`},
		{"variable/x", `"9aB3dE6fG1hJ2kL4mN5pQ7rS8tU0vW3x"`, `: a long random text`},
		{"variable/x", `"3f9a81c0d2b74e65a1c9f0872be4d36a5c10e97bd8"`, `: a long random text`},
	} {
		if got := rules(t, c.key, c.value); len(got) != 1 || got[0] != c.want {
			t.Errorf("%s %s: %q, want %q", c.key, c.value, got, c.want)
		}
	}
}

func TestWhatPeopleConfigurePasses(t *testing.T) {
	for _, c := range []struct{ key, value string }{
		{"variable/id", `"123e4567-e89b-12d3-a456-426614174000"`},
		{"variable/commit", `"fc016b0599ee6cb5ba479452055a3370e7238aaa"`},
		{"variable/trace", `"4bf92f3577b34da6a3ce929d0e0e4736"`},
		{"variable/digest", `"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`},
		{"variable/integrity", `"sha384-oqVuAfXRKap7fdgcCY5uykM6+R9GqQ8K/uxy9rx7HNQlGYl1kPzQho1wx4JwY8wC"`},
		{"variable/image", `"ghcr.io/open-telemetry/opentelemetry-collector-releases/opentelemetry-collector-contrib:0.159.0"`},
		{"variable/VALKEY_IMAGE", `"ghcr.io/valkey-io/valkey:9.0.4-alpine3.23"`},
		{"variable/host", `"payments-7.eu-west-1.internal.svc.cluster.local"`},
		{"variable/url", `"https://login.example.org/oauth2/v2.0/token?scope=orders.read&tenant=prod-eu"`},
		{"variable/url", `"http://user@example.org/"`},
		{"variable/url", `"postgres://shop:${DB_PASSWORD}@db/shop"`},
		{"variable/text", `"Please note that orders which were placed before 2026-11-21T10:00:00Z are delivered within 3 working days."`},
		{"variable/name", `"checkoutServiceRedesignVersion2EnabledForTenants"`},
		{"variable/name", `"/var/lib/App2/Data3/Xy9/Zz8/Ab7"`},
		{"variable/time", `"2026-11-21T10:00:00.123456Z"`},
		{"variable/attributes", `"service.namespace=opentelemetry-demo,service.version=3.0.0"`},
		{"variable/max-tokens", `4096`},
		{"variable/token-ttl", `"30m"`},
		{"variable/password-min-length", `12`},
		{"variable/password", `true`},
		{"connection/crm", `{"password":{"$secret":{"ref":"env://CRM_PASSWORD","version":"7"}},"user":"shop"}`},
		{"secret/crm-token", `{"$secret":{"ref":"file:///run/secrets/crm-token"}}`},
		{"connection/crm", `{"tokenUrl":"https://login/token","token":"https://login/token","password":"","apiKey":"${API_KEY}","secret":"<secret>","pwd":"/run/secrets/pwd","passwordFile":"x"}`},
		{"document/labels", `{"password":"Your password","token":"Enter the token that we sent you","secret":"Secret","login":{"pass":"{{pass}}"}}`},
		{"document/theme", `{"colors":{"primary":"#0033aa","accent":"rgba(12, 34, 56, 0.78)"},"logo":"data:image/png;base64,iVBORw0KGgo="}`},
		{"document/tls", `{"ca":"-----BEGIN CERTIFICATE-----\nMIIB9aB3dE6fG1hJ2kL4mN5pQ7rS8tU0vW3x\n-----END CERTIFICATE-----\n"}`},
		{"flag/cache-key", `{"state":"ENABLED","variants":{"a":"orders-by-customer-v2","b":"orders-by-tenant-v3"},"defaultVariant":"a"}`},
		{"endpoint/payments", `{"url":"https://payments.eu.example.org:8443/api/v1","timeout":"2s","retries":3,"keyPrefix":"payments:v1:"}`},
	} {
		if got := rules(t, c.key, c.value); len(got) > 0 {
			t.Errorf("%s %s: %q", c.key, c.value, got)
		}
	}
}

const manifests = `apiVersion: lockstep/v1
kind: Connection
metadata:
  name: crm
spec:
  default: {host: crm, password: hunter2}
  overrides:
    prod-*: {password: hunter3}
---
apiVersion: lockstep/v1
kind: Template
metadata:
  name: base
  description: The token is password=hunter4
spec:
  values: {connection/crm: {password: hunter5}}
---
apiVersion: lockstep/v1
kind: Environment
metadata: {name: dev, labels: {token: dev}}
spec:
  overrides: {connection/crm: {password: hunter6}}
`

func read(t testing.TB, text string) *registry.Sources {
	t.Helper()
	s, err := registry.Read([]registry.File{{Name: "a.yaml", Text: text}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEveryLayerOfAManifestIsScanned(t *testing.T) {
	var got []string
	for _, f := range Sources(read(t, manifests)) {
		got = append(got, f.Place.String()+" "+f.Key+" "+f.Path)
		if strings.Contains(f.String(), "hunter") {
			t.Errorf("the message holds the value: %s", f)
		}
		if !strings.Contains(f.String(), f.Key+" at "+f.Path+" looks like a secret: ") || !strings.Contains(f.String(), f.Fingerprint) {
			t.Errorf("the message does not say what and where: %s", f)
		}
	}
	want := []string{"a.yaml:6 connection/crm /spec/default/password", "a.yaml:8 connection/crm /spec/overrides/prod-*/password",
		"a.yaml:22 environment/dev /spec/overrides/connection~1crm/password", "a.yaml:14 template/base /metadata/description", "a.yaml:16 template/base /spec/values/connection~1crm/password"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestNamesAreScannedAndNeverShown: a map may be keyed by what lets its clients in.
func TestNamesAreScannedAndNeverShown(t *testing.T) {
	const keyed = `apiVersion: lockstep/v1
kind: Document
metadata: {name: clients}
spec:
  default: {clients: {sk_live_4eC39HqLyjWDarjtT1zdp7dc: {password: hunter2, plan: gold}}}
`
	found := Sources(read(t, keyed))
	if len(found) != 1 || found[0].Path != "/spec/default/clients" || found[0].Place.Line != 5 || strings.Contains(fmt.Sprintf("%+v", found), "sk_live") {
		t.Fatalf("%+v", found)
	}
	listed := strings.Replace(keyed, "name: clients", fmt.Sprintf("name: clients, notSecret: [{path: %s, fingerprint: '%s', reason: made up}]", found[0].Path, found[0].Fingerprint), 1)
	if left := Sources(read(t, listed)); len(left) != 1 || !strings.HasSuffix(left[0].Path, "/password") {
		t.Errorf("what stands under a name that is no secret: %+v", left)
	}
}

// TestAnExceptionHoldsForOneValueAtOnePlace: it lets a value pass at its path, in the manifest and as a quick edit, and no other value there.
func TestAnExceptionHoldsForOneValueAtOnePlace(t *testing.T) {
	list := func(path, print string) string {
		return strings.Replace(manifests, "  name: crm\n", fmt.Sprintf("  name: crm\n  notSecret: [{path: %s, fingerprint: '%s', reason: made up for tests}]\n", path, print), 1)
	}
	finding := Sources(read(t, manifests))[0]
	s := read(t, list(finding.Path, finding.Fingerprint))
	if left := Sources(s); len(left) != 4 {
		t.Errorf("%d are left: %v", len(left), left)
	}
	m, _ := s.Manifest("connection/crm")
	if found := Value("connection/crm", []byte(`{"password":"hunter2"}`), m); len(found) > 0 {
		t.Errorf("%v", found)
	}
	for _, other := range []string{list(finding.Path, "00000000"), list("/spec/default/host", finding.Fingerprint), strings.Replace(list(finding.Path, finding.Fingerprint), "hunter2", "hunter7", 1)} {
		if left := Sources(read(t, other)); len(left) != 5 {
			t.Errorf("%d are left of\n%s", len(left), other)
		}
	}
	if found := Value("connection/crm", []byte(`{"password":"hunter7"}`), m); len(found) != 1 {
		t.Errorf("%v", found)
	}
	if _, err := registry.Read([]registry.File{{Name: "a.yaml", Text: strings.Replace(list(finding.Path, finding.Fingerprint), "made up for tests", "' '", 1)}}); err == nil || !strings.Contains(err.Error(), "entry 1 of notSecret has no path, fingerprint or reason") {
		t.Errorf("%v", err)
	}
}

// TestRandomTextsAreFound: keys that programs make are found, whatever alphabet writes them down.
func TestRandomTextsAreFound(t *testing.T) {
	chance := rand.NewChaCha8([32]byte{1})
	const draws = 1000
	for name, encode := range map[string]func([]byte) string{
		"base64": base64.StdEncoding.EncodeToString, "base64url": base64.RawURLEncoding.EncodeToString,
		"hex": func(b []byte) string { return hex.EncodeToString(b[:21]) },
	} {
		missed := 0
		for range draws {
			b := make([]byte, 24)
			if _, err := chance.Read(b); err != nil {
				t.Fatal(err)
			}
			if !isRandom(encode(b)) {
				missed++
			}
		}
		if missed > draws/10 {
			t.Errorf("%s: %d of %d were missed", name, missed, draws)
		}
	}
}

// TestNoMessageHoldsTheValue: whatever is refused, nothing of it is said.
func TestNoMessageHoldsTheValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringMatching(`[A-Z][a-z]{3}[0-9]{3}[A-Za-z0-9]{6,20}`).Draw(t, "secret")
		form := rapid.SampledFrom([]string{`{"password":%q}`, `{"a":["https://u:%s@host/"]}`, `{"a":"token=%s"}`, `{"x":{"api_key":[%q]}}`}).Draw(t, "form")
		value := json.RawMessage(fmt.Sprintf(form, secret))
		found := Value("connection/crm", value, nil)
		if len(found) == 0 {
			t.Fatalf("nothing is found in %s", value)
		}
		for _, f := range found {
			if strings.Contains(fmt.Sprintf("%v %+v", f, f), secret) {
				t.Fatalf("%v", f)
			}
		}
	})
}

func FuzzValue(f *testing.F) {
	for _, seed := range []string{`{"password":"x"}`, `["a://b:c@d",{"$secret":{"ref":"env://X"}}]`, `"AKIAQYLPMN5HHHFPZAM2"`, `{"":{"":""}}`, `"\u0000=\"token="`, `1`, `"password=a"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if !json.Valid(b) || !utf8.Valid(b) {
			return
		}
		value := json.RawMessage(strings.TrimSpace(string(b)))
		for _, found := range Value("document/x", value, nil) {
			if found.Rule == "" || len(found.Fingerprint) != 8 || found.Path != "" && found.Path[0] != '/' {
				t.Errorf("%+v", found)
			}
		}
	})
}

func BenchmarkSources(b *testing.B) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "---\napiVersion: lockstep/v1\nkind: Endpoint\nmetadata: {name: payments-%d, owner: shop-team}\nspec:\n  default: {url: 'https://payments-%d.example.org/api', timeout: 2s, apiVersion: v1}\n", i, i)
	}
	s := read(b, text.String())
	gitleaks()
	for b.Loop() {
		if found := Sources(s); len(found) > 0 {
			b.Fatal(found[0])
		}
	}
}
