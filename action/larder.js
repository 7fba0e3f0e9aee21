// larder's side: starts the binary without a shell, passes signals on, reads its object.
'use strict';

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

/** Raised where the binary raises it: when a field changed its meaning or went away. */
const SCHEMA_VERSION = 1;
/** Objects take kilobytes. */
const LONGEST_OBJECT = 64 << 20;

/** Why larder could not be used, and what to do: a sentence for people. */
class Unusable extends Error {}

/** A path as people write it: `~/` is the home directory. */
function expand(name) {
    return name === '~' || name.startsWith('~/') ? path.join(os.homedir(), name.slice(1)) : name;
}

/** Whether the job runs in a container, where the runner mounts its work folder so. */
function isContainer() {
    const work = process.env.GITHUB_WORKSPACE ?? '';
    return work === '/__w' || work.startsWith('/__w/');
}

/** larder needs neither the action's inputs nor the runner's credentials. */
function environment() {
    const names = Object.keys(process.env).filter((name) => !name.startsWith('INPUT_') && !/^ACTIONS_.*TOKEN$/.test(name));
    return Object.fromEntries(names.map((name) => [name, process.env[name]]));
}

function cannotStart(binary, error) {
    const said = `larder cannot be started (${binary}: ${error.code ?? error.message})`;
    if (error.code !== 'ENOENT') {
        return `${said}: is it an executable file for this machine?`;
    }
    if (isContainer()) {
        return `${said}: this job runs in a container, which sees neither the runner's larder nor its store; mount both with ` +
            '`container.volumes`, at the same paths, and set LARDER_STORE, or run the job without a container';
    }
    return `${said}: install it on this runner, on the PATH of the runner's service, or name it by the input binary`;
}

/**
 * Runs larder to its end; its exit code and what it wrote to stdout. What it says on stderr is in the step's log.
 * A signal to this process is passed on, and larder's end awaited.
 */
function start(binary, args, stdin = '') {
    const program = expand(binary);
    return new Promise((resolve, reject) => {
        const cwd = process.cwd();
        const child = spawn(program, args, { cwd, env: environment(), shell: false, stdio: ['pipe', 'pipe', 'inherit'] });
        let got = null;
        const forward = (signal) => {
            got = signal;
            child.kill(signal);
        };
        const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
        signals.forEach((signal) => process.on(signal, forward));
        const done = () => signals.forEach((signal) => process.removeListener(signal, forward));
        const pieces = [];
        let length = 0;
        child.stdout.on('data', (piece) => {
            length += piece.length;
            if (length <= LONGEST_OBJECT) pieces.push(piece);
        });
        // Whoever ends before it has read everything wants no more.
        child.stdin.on('error', () => {});
        child.stdin.end(stdin);
        child.on('error', (error) => {
            done();
            reject(new Unusable(cannotStart(binary, error)));
        });
        child.on('close', (code, signal) => {
            done();
            if (got) {
                // As a shell would say it: the job is being cancelled.
                process.exit(128 + os.constants.signals[got]);
            }
            resolve({ code, signal, out: Buffer.concat(pieces).toString('utf8') });
        });
    });
}

/** Runs a command of larder and reads its object; exit codes other than 0 and `accepted` are errors. */
async function ask(binary, command, args, accepted = []) {
    const { code, signal, out } = await start(binary, ['--format=json', command, ...args]);
    if (signal) {
        throw new Unusable(`larder ${command} was ended by ${signal}`);
    }
    if (code === 2) {
        throw new Unusable(`larder ${command} was not understood: see its words above; either an input is wrong, or larder is ` +
            'older than this action: update it');
    }
    if (code !== 0 && !accepted.includes(code)) {
        throw new Unusable(`larder ${command} failed with exit code ${code}: see its words above`);
    }
    let object;
    try {
        object = JSON.parse(out);
    } catch {
        throw new Unusable(`what larder ${command} printed is no JSON: is ${binary} larder?`);
    }
    if (object?.schema_version !== SCHEMA_VERSION) {
        throw new Unusable(`larder ${command} speaks version ${object?.schema_version} and this action ${SCHEMA_VERSION}: ` +
            'use the action of the same release');
    }
    return { object, code };
}

/** In a container a store that is not mounted is thrown away with it; a sentence about that, or null. */
function lostStore(store) {
    const dir = store || process.env.LARDER_STORE || '';
    if (!isContainer() || (dir !== '' && fs.existsSync(expand(dir)))) {
        return null;
    }
    const which = dir === '' ? 'no store is named' : `there is no store at ${dir}`;
    return `this job runs in a container and ${which}: mount the runner's store with \`container.volumes\` and set LARDER_STORE, ` +
        'else it is thrown away with the container';
}

module.exports = { Unusable, expand, start, ask, lostStore };
