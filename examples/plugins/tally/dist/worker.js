// Gives its place to the program beside it: the same process, with the same standard
// streams. Whoever started Node for a plugin finds the program there, and notices nothing.
import process from "node:process";
import { fileURLToPath } from "node:url";

const program = fileURLToPath(new URL(`../bin/${process.platform}-${process.arch}/tally-worker`, import.meta.url));
process.execve(program, [program], process.env);
