package file

import (
	"testing"

	"github.com/joho/godotenv"
)

// What godotenv reads we read, and the other way round.
func FuzzDotenvIsReadAsGodotenvReadsIt(f *testing.F) {
	for _, seed := range []string{
		foreign["dotenv"].text, foreign["dotenv crlf"].text, "A=", "A", "export", "export A=1", "exportA=1", "A: b", "A='x' B=3", "A=x # y # z", "A=#x",
		"A= # x", "A=\"\\\\\"", "A='it\\'s'", "A=$B", "A=\\$B", "A=\u00a0x\u0085", "A=\r\nB=\r", "=x", "A B=1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		read, err := godotenv.Unmarshal(text)
		doc, ours := parseDotenv([]byte(text))
		if err != nil {
			if ours == nil {
				t.Fatalf("we read %v, godotenv says %v", doc.tree(), err)
			}
			return
		}
		if ours != nil {
			return // we may refuse more
		}
		for key, value := range read {
			got, there := doc.tree()[key]
			if _, refers := got.(unheld); !there || !refers && got != value {
				t.Fatalf("%q is %#v, godotenv reads %q", key, got, value)
			}
		}
	})
}

func FuzzDotenvEdit(f *testing.F) {
	for _, text := range []string{foreign["dotenv"].text, "A='x' K=3", "K=a # b # c", "K: \"x\ny\" #c", "K=1\nA=$K\nK=2", "A=1 # no end"} {
		f.Add(text, "va'l\"ue")
		f.Add(text, "$A # \\")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		doc, err := parseDotenv([]byte(text))
		if err != nil {
			return
		}
		if v, err := normalDotenv(value); err == nil {
			if v != value {
				t.Fatalf("%q became %q", value, v)
			}
			after, _, err := dotenv.render(doc, nil, edits{set: map[string]any{"K": value}})
			if err == nil {
				if read, err := godotenv.UnmarshalBytes(after); err != nil || read["K"] != value {
					t.Fatalf("wrote %q, godotenv reads %q (%v) in %q", value, read["K"], err, after)
				}
			}
		}
		if after, _, err := dotenv.render(doc, nil, edits{del: map[string]bool{"K": true}}); err == nil {
			if read, err := godotenv.UnmarshalBytes(after); err == nil {
				if _, there := read["K"]; there {
					t.Fatalf("K is still in %q", after)
				}
			}
		}
	})
}

// Whatever the file, an edit of ours changes our key alone or is refused; render proves it, so that no panic and no error but its
// own may come.
func FuzzEditEveryFormat(f *testing.F) {
	for _, c := range foreign {
		f.Add(c.text, "k")
	}
	f.Add("a: &x {b: 1}\nk: *x\n", "k")
	f.Add("? a\n: b\n", "a")
	f.Add("<<: {a: 1}\nk: 2", "a")
	f.Add("{a: 1}", "k")
	f.Add("{}", "k")
	f.Add("null", "k")
	f.Add("%YAML 1.2\n---\nk: 1\n...\n", "k")
	f.Fuzz(func(t *testing.T, text, key string) {
		for name, format := range formats {
			doc, err := format.parse([]byte(text))
			if err != nil || format.checkKey(key) != nil {
				continue
			}
			for _, value := range []any{"new", float64(3), map[string]any{"a": []any{"b"}}} {
				v, err := format.normal(value)
				if err != nil {
					t.Fatalf("%s cannot hold %v", name, value)
				}
				after, parsed, err := format.render(doc, nil, edits{set: map[string]any{key: v}})
				if err != nil {
					continue
				}
				again, err := format.parse(after)
				if err != nil {
					t.Fatalf("%s rendered %q, which it cannot read", name, after)
				}
				if string(canonical(again.tree())) != string(canonical(parsed.tree())) {
					t.Fatalf("%s reads %q in two ways", name, after)
				}
			}
		}
	})
}
