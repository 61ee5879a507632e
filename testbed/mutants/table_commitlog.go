package main

var commitlogMutants = []mutant{}
