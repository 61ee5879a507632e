package main

var walMutants = []mutant{}
