// How the search orders pages: first those that explain a word or a message, last those that quote packets.
const FIRST = ["glossary", "troubles", "administrators", "developers", "operators"];
const LAST = /^(conformance\/|repository\/)/;
var Scorer = {
  score: ([docname, , , , score]) => score + (FIRST.includes(docname) ? 30 : LAST.test(docname) ? -30 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
