package sdk_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/weirmq/weir/plugins/sdk"
)

func TestScanner(t *testing.T) {
	s := sdk.ScanObject([]byte(` {"a":1.5e2 , "b\u0062":"x\n\"\u00e9\ud83d\ude00\ud83d","c":[1,{"d":[]},null],"e":true,"f":-7,"g":{}}`))
	want := []struct {
		name, value string
		kind        sdk.Kind
	}{
		{"a", "1.5e2", sdk.Number}, {`b\u0062`, `"x\n\"\u00e9\ud83d\ude00\ud83d"`, sdk.String}, {"c", `[1,{"d":[]},null]`, sdk.Array},
		{"e", "true", sdk.Bool}, {"f", "-7", sdk.Number}, {"g", "{}", sdk.Object},
	}
	for i := 0; s.Next(); i++ {
		if string(s.Name()) != want[i].name || string(s.Value()) != want[i].value || s.Kind() != want[i].kind {
			t.Errorf("member %d: %s %s %v, want %+v", i, s.Name(), s.Value(), s.Kind(), want[i])
		}
		switch i {
		case 0:
			if f, err := s.Float(); f != 150 || err != nil {
				t.Errorf("float %v %v", f, err)
			}
		case 1:
			if text, err := s.AppendText(nil); string(text) != "x\n\"é😀\uFFFD" || err != nil {
				t.Errorf("text %q %v", text, err)
			}
		case 4:
			if n, err := s.Int(); n != -7 || err != nil {
				t.Errorf("int %v %v", n, err)
			}
		}
	}
	if s.Err() != nil {
		t.Error(s.Err())
	}
	deep := `{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`
	if s := sdk.ScanObject([]byte(deep)); s.Next() || s.Err() == nil {
		t.Error("no limit on depth")
	}
}

func TestScannerAllocatesNothing(t *testing.T) {
	text := []byte(`{"device":"pump-017","seq":123,"ts":1763800000000,"temp_f":71.3,"x":[1,2,{"a":null}]}`)
	if n := testing.AllocsPerRun(100, func() {
		s := sdk.ScanObject(text)
		for s.Next() {
			if s.Kind() == sdk.Number {
				_, _ = s.Float()
			}
		}
		if s.Err() != nil {
			t.Fatal(s.Err())
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The scanner accepts what encoding/json accepts as an object, and reads the same.
func FuzzScanner(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1}`, `{"a":-0.5E+3,"b":[true,false,null]}`, `{"a":"\u00e9\ud83d\ude00"}`, `{"a":01}`, `{"a":1}}`, `[1]`, "{\"\x01\":1}", "{\"\xff\":1}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s := sdk.ScanObject(text)
		got := map[string]string{}
		for s.Next() {
			if s.Kind() != sdk.String {
				continue
			}
			v, err := s.AppendText(nil)
			if err != nil {
				t.Fatal(err)
			}
			var want string
			if err := json.Unmarshal(s.Value(), &want); err != nil || want != string(v) {
				t.Fatalf("%s is %q, want %q, %v", s.Value(), v, want, err)
			}
			got[string(s.Name())] = want
		}
		if s.Err() == nil {
			if !json.Valid(text) {
				t.Fatalf("%q is not valid JSON", text)
			}
			return
		}
		// encoding/json is laxer about UTF-8 and depth.
		trimmed := bytes.TrimLeft(text, " \t\r\n")
		if json.Valid(text) && bytes.HasPrefix(trimmed, []byte("{")) && bytes.Equal(bytes.ToValidUTF8(text, nil), text) && !strings.Contains(s.Err().Error(), "too deep") {
			t.Fatalf("%q is valid, but: %v", text, s.Err())
		}
	})
}

func FuzzAppendString(f *testing.F) {
	f.Add([]byte("a\"\\\n\x00é\xff\u2028"))
	f.Fuzz(func(t *testing.T, s []byte) {
		var got string
		if err := json.Unmarshal(sdk.AppendString(nil, s), &got); err != nil || got != string(bytes.ToValidUTF8(s, []byte("\uFFFD"))) && bytes.Equal(bytes.ToValidUTF8(s, nil), s) {
			t.Errorf("%q became %q, %v", s, got, err)
		}
	})
}

func TestAppendFixed(t *testing.T) {
	for v, want := range map[float64]string{0: "0.00", -0.004: "0.00", 0.005: "0.01", -1.5: "-1.50", 21.833333: "21.83", 1013.2075: "1013.21", 1e20: "100000000000000000000.00", -99.999: "-100.00"} {
		if got := string(sdk.AppendFixed(nil, v, 2)); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
	if got := string(sdk.AppendFixed(nil, 2.5, 0)); got != "3" {
		t.Errorf("2.5: %s", got)
	}
}
