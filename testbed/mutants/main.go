// Command mutants proves that the tests of the log test it. It takes away one
// fsync, one fsync of a folder, one CRC check or one gate of an acknowledgement at
// a time, and runs the tests of the packages concerned: they must fail. The source
// is not touched; the compiler is given an overlay.
//
//	go run ./testbed/mutants [-run REGEXP] [-list]
//
// It prints a table of the mutants and of the test that killed each, and exits
// with 1 if one survived.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"time"
)

func main() {
	pick := flag.String("run", "", "only mutants whose name matches this regular expression")
	list := flag.Bool("list", false, "print the mutants and run none")
	flag.Parse()
	if err := run(*pick, *list); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(pick string, list bool) error {
	re, err := regexp.Compile(pick)
	if err != nil {
		return err
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	chosen := slices.Clone(mutants)
	chosen = slices.DeleteFunc(chosen, func(m mutant) bool { return !re.MatchString(m.name) })
	if list {
		for _, m := range chosen {
			fmt.Printf("%-60s %s\n", m.name, m.file)
		}
		return nil
	}
	began := time.Now()
	if err := baseline(root, chosen); err != nil {
		return err
	}
	results := runAll(root, chosen)
	return report(results, time.Since(began))
}

// baseline runs all suites on the source as it is: a test that fails anyway would
// pass for one that noticed.
func baseline(root string, chosen []mutant) error {
	var done []string
	for _, m := range chosen {
		for _, s := range m.tests {
			key := fmt.Sprint(s)
			if slices.Contains(done, key) || len(s.args) > 0 {
				continue // what takes long is what CI runs by itself
			}
			done = append(done, key)
			if killer, err := s.test(root, ""); err != nil || killer != "" {
				return fmt.Errorf("without a mutant: %s fails: %w", cmp.Or(killer, s.pkg), errors.Join(err, errors.New("mend the tests first")))
			}
		}
	}
	return nil
}

// runAll runs the mutants, one for each processor at a time.
func runAll(root string, chosen []mutant) []result {
	results := make([]result, len(chosen))
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	var pending sync.WaitGroup
	for i, m := range chosen {
		free <- struct{}{}
		pending.Go(func() {
			defer func() { <-free }()
			results[i] = m.run(root)
			fmt.Fprintf(os.Stderr, "%3d/%d %s: %s\n", i+1, len(chosen), m.name, results[i].verdict())
		})
	}
	pending.Wait()
	return results
}

func report(results []result, took time.Duration) error {
	width := 0
	for _, r := range results {
		width = max(width, len(r.name))
	}
	bad := 0
	for _, r := range results {
		if r.killer == "" {
			bad++
		}
		fmt.Printf("%-*s  %s\n", width, r.name, r.verdict())
	}
	fmt.Printf("%d mutants, %d killed, %d not, in %v\n", len(results), len(results)-bad, bad, took.Round(time.Second))
	if bad > 0 {
		return errors.New("a mutant survived: the tests would not notice its fault in the log")
	}
	return nil
}

// result is what became of a mutant.
type result struct {
	mutant
	killer string // the test that failed; empty: none did
	err    error  // why it could not be run
}

func (r result) verdict() string {
	if r.err != nil {
		return "NOT RUN: " + r.err.Error()
	}
	return cmp.Or(r.killer, "SURVIVED")
}
