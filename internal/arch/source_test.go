package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const maxLines = 500

// A source is one parsed file.
type source struct {
	listed
	name string // from the root of the repository
	file *ast.File
	set  *token.FileSet
}

func (s source) isTest() bool { return strings.HasSuffix(s.name, "_test.go") }

func (s source) at(n ast.Node) string {
	return s.name + ":" + strconv.Itoa(s.set.Position(n.Pos()).Line)
}

func sources(t *testing.T) (all []source) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list(t) {
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			path := filepath.Join(p.Dir, name)
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			relative, err := filepath.Rel(root, path)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, source{p, relative, file, set})
		}
	}
	return all
}

// TestEveryFuzzTargetHasACorpus: what fuzzing found interesting is run by every `go test`, and is where the next fuzzing begins.
func TestEveryFuzzTargetHasACorpus(t *testing.T) {
	targets := 0
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || !s.isTest() || !strings.HasPrefix(f.Name.Name, "Fuzz") {
				continue
			}
			targets++
			corpus, err := filepath.Glob(filepath.Join(s.Dir, "testdata", "fuzz", f.Name.Name, "*"))
			if err != nil || len(corpus) == 0 {
				t.Errorf("%s: %s has no corpus in testdata/fuzz: run it, and keep some of what is in `go env GOCACHE`/fuzz (%v)", s.at(f), f.Name.Name, err)
			}
		}
	}
	if targets == 0 {
		t.Error("there is no fuzz target")
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	comments := map[string][]string{}
	for _, s := range sources(t) {
		if s.file.Doc == nil || s.isTest() {
			continue
		}
		comments[s.ImportPath] = append(comments[s.ImportPath], s.name)
		want := "Package " + s.Name + " "
		if s.Name == "main" { // go.dev/doc/comment: the name of the program, capitalized
			name := filepath.Base(s.Dir)
			want = strings.ToUpper(name[:1]) + name[1:] + " "
		}
		if !strings.HasPrefix(s.file.Doc.Text(), want) {
			t.Errorf("%s: the package comment does not begin with %q", s.name, want)
		}
	}
	for _, p := range list(t) {
		if files := comments[p.ImportPath]; len(files) != 1 {
			t.Errorf("%s has %d package comments, want one: %v", p.path(), len(files), files)
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	for _, s := range sources(t) {
		if lines := s.set.File(s.file.Pos()).LineCount(); lines > maxLines && !s.isTest() && !ast.IsGenerated(s.file) {
			t.Errorf("%s has %d lines, want at most %d", s.name, lines, maxLines)
		}
	}
}

// TestTestsWaitForEventsNotForTime: a sleep is right on no machine, and a skipped test says nothing. In a synctest bubble time is
// not the machine's.
func TestTestsWaitForEventsNotForTime(t *testing.T) {
	for _, s := range sources(t) {
		if !s.isTest() && !s.isTestHelper() {
			continue
		}
		inspectOutside(s.file, "synctest", func(n ast.Node) {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return
			}
			switch on, name := selector(call.Fun); {
			case on == "time" && name == "Sleep":
				t.Errorf("%s: time.Sleep: wait for an event with a deadline, or use testing/synctest", s.at(n))
			case name == "Skip" || name == "SkipNow" || name == "Skipf":
				t.Errorf("%s: %s: a test that is not run is no test", s.at(n), name)
			}
		})
	}
}

// inspectOutside visits all nodes but the arguments of calls into a package.
func inspectOutside(file *ast.File, pkg string, visit func(ast.Node)) {
	ast.Inspect(file, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if on, _ := selector(call.Fun); on == pkg {
				return false
			}
		}
		if n != nil {
			visit(n)
		}
		return true
	})
}

// selector takes x.name apart; x is "" where it is no plain name.
func selector(e ast.Expr) (x, name string) {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	if ident, ok := s.X.(*ast.Ident); ok {
		x = ident.Name
	}
	return x, s.Sel.Name
}

// TestErrorsKeepTheirCause: errors are wrapped with %w and recognized with errors.Is and errors.As.
func TestErrorsKeepTheirCause(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() || s.isTestHelper() {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if _, name := selector(n.Fun); name == "Errorf" {
					if verb := verbOfError(n); verb != "" && verb != "%w" {
						t.Errorf("%s: an error is formatted with %s, want %%w", s.at(n), verb)
					}
				}
			case *ast.BinaryExpr:
				if (n.Op == token.EQL || n.Op == token.NEQ) && isError(n.X) && !isNil(n.Y) {
					t.Errorf("%s: an error is compared with %s, want errors.Is", s.at(n), n.Op)
				}
			case *ast.TypeAssertExpr:
				if isError(n.X) {
					t.Errorf("%s: a type assertion on an error, want errors.As", s.at(n))
				}
			}
			return true
		})
	}
}

var verbs = regexp.MustCompile(`%[-+# 0-9.]*[a-zA-Z%]`)

// verbOfError is the verb that a call of Errorf formats an error with, or "".
func verbOfError(call *ast.CallExpr) string {
	for i, arg := range call.Args {
		literal, ok := arg.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			continue
		}
		found := slices.DeleteFunc(verbs.FindAllString(literal.Value, -1), func(v string) bool { return v == "%%" })
		for j, value := range call.Args[i+1:] {
			if isError(value) && j < len(found) {
				return found[j]
			}
		}
		return ""
	}
	return ""
}

// isError goes by the name: err, closeErr and the like.
func isError(e ast.Expr) bool {
	ident, ok := e.(*ast.Ident)
	return ok && (ident.Name == "err" || strings.HasSuffix(ident.Name, "Err"))
}

func isNil(e ast.Expr) bool {
	ident, ok := e.(*ast.Ident)
	return ok && ident.Name == "nil"
}

// TestOnlyProgramsPrint: what is below cmd returns errors and writes to the writers it was given.
func TestOnlyProgramsPrint(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() || strings.HasPrefix(s.path(), "cmd/") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			switch on, name := selector(call.Fun); {
			case on == "fmt" && (name == "Print" || name == "Printf" || name == "Println"), on == "os" && name == "Exit",
				on == "log" && (strings.HasPrefix(name, "Print") || strings.HasPrefix(name, "Fatal") || strings.HasPrefix(name, "Panic")):
				t.Errorf("%s: %s.%s below cmd", s.at(n), on, name)
			}
			return true
		})
	}
}

// TestNothingUnfinishedIsShipped: what is not done is not there.
func TestNothingUnfinishedIsShipped(t *testing.T) {
	unfinished := regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)
	for _, s := range sources(t) {
		for _, group := range s.file.Comments {
			if unfinished.MatchString(group.Text()) && s.ImportPath != module+"internal/arch" {
				t.Errorf("%s: %s", s.at(group), unfinished.FindString(group.Text()))
			}
		}
	}
}
