// The runner's side: inputs from the environment, outputs and state to files, commands to the log.
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');

/** An input as the workflow gave it, without surrounding blanks; empty where it gave none. */
function input(name) {
    return (process.env[`INPUT_${name.replace(/ /g, '_').toUpperCase()}`] ?? '').trim();
}

/** The lines of an input that are not blank. */
function lines(name) {
    return input(name).split(/\r?\n/).map((line) => line.trim()).filter((line) => line !== '');
}

/** An input that is one of `choices`; the first of them where it is empty. */
function choice(name, choices) {
    const value = input(name) || choices[0];
    if (!choices.includes(value)) {
        throw new Error(`input ${name}: expected ${choices.join(', ')}, not ${JSON.stringify(value)}`);
    }
    return value;
}

/** An input that is true or false, as YAML writes them. */
function flag(name) {
    const value = input(name).toLowerCase();
    if (value !== '' && value !== 'true' && value !== 'false') {
        throw new Error(`input ${name}: expected true or false, not ${JSON.stringify(value)}`);
    }
    return value === 'true';
}

/** Adds NAME=VALUE to a file of the runner; whatever stands in the value, it stays one value. */
function append(file, name, value) {
    let mark;
    do {
        mark = `larder-${crypto.randomUUID()}`;
    } while (value.includes(mark));
    fs.appendFileSync(file, `${name}<<${mark}\n${value}\n${mark}\n`);
}

function output(name, value) {
    if (process.env.GITHUB_OUTPUT) append(process.env.GITHUB_OUTPUT, name, value);
}

/** Keeps a value for the post step. */
function keep(name, value) {
    if (process.env.GITHUB_STATE) append(process.env.GITHUB_STATE, name, value);
}

/** What the main step kept; empty where it kept nothing. */
function kept(name) {
    return process.env[`STATE_${name}`] ?? '';
}

/** Text of which the runner obeys nothing, in one line. */
function inert(text) {
    return String(text)
        .replace(/[^\x20-\x7e\u00a1-\u00ac\u00ae-\u02ff]/gu, (c) => (c === '\n' ? ' ' : `\\u{${c.codePointAt(0).toString(16)}}`))
        .replace(/##\[/g, '##\\[')
        .trim();
}

function mark(kind, text) {
    process.stdout.write(`::${kind} title=larder::${inert(text).replace(/%/g, '%25')}\n`);
}

/** A line of the log. */
function say(text) {
    process.stdout.write(`larder: ${inert(text)}\n`);
}

const warn = (text) => mark('warning', text);
const fail = (text) => mark('error', text);

module.exports = { input, lines, choice, flag, output, keep, kept, say, warn, fail };
