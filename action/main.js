// Before the job's own steps: restore, or what else the input `mode` says.
'use strict';

const runner = require('./runner');
const larder = require('./larder');

/** `--NAME=VALUE`: so no value can become an option of its own. */
const option = (name, value) => (value === '' ? [] : [`--${name}=${value}`]);
const toggle = (name, on) => (on ? [`--${name}`] : []);

/** What restore and save are told alike: both must find the same snapshot. */
function which() {
    return [
        ...option('store', larder.expand(runner.input('store'))),
        ...option('workspace', runner.input('workspace')),
        ...runner.lines('path').flatMap((dir) => option('path', larder.expand(dir))),
        ...option('key', runner.input('key')),
        ...toggle('key-only', runner.flag('key-only')),
        ...option('job', runner.input('job')),
        ...option('link-mode', runner.input('link-mode')),
        ...toggle('canonical', runner.flag('canonical')),
    ];
}

/** Where room is looked at and made. */
function room() {
    return [
        ...option('store', larder.expand(runner.input('store'))),
        ...option('workspace', runner.input('workspace')),
        ...option('need', runner.input('need')),
    ];
}

async function guard(binary) {
    const { object } = await larder.ask(binary, 'guard', room(), [1]);
    if (!object.room) {
        const full = object.disks.filter((disk) => !disk.room).map((disk) => disk.path);
        const why = `no room on the disk of ${full.join(', ')}: see \`larder guard\` on the runner for what fills it`;
        if (runner.flag('fail-on-error')) throw new larder.Unusable(why);
        runner.warn(why);
    }
    runner.say(`${object.evicted.length} snapshots evicted, ${object.room ? 'room' : 'no room'}`);
}

async function gc(binary) {
    const args = [...option('store', larder.expand(runner.input('store'))), ...option('need', runner.input('need'))];
    const { object, code } = await larder.ask(binary, 'gc', args, [1]);
    if (code === 1) {
        const why = 'larder gc could not free all that is needed: see its words above';
        if (runner.flag('fail-on-error')) throw new larder.Unusable(why);
        runner.warn(why);
    }
    runner.say(`${object.evicted.filter((one) => !one.kept).length} snapshots evicted, ${object.bytes} bytes freed`);
}

/** larder writes most of the outputs by itself; the two that a workflow reads by `fromJSON` are made here. */
async function setup(binary) {
    const { object } = await larder.ask(binary, 'setup', [...room(), ...toggle('exact', runner.flag('exact'))]);
    const siblings = Array.isArray(object.siblings) ? object.siblings : [];
    const by = (field) => {
        const told = siblings.filter((sibling) => typeof sibling.name === 'string' && typeof sibling[field] === 'string');
        return JSON.stringify(Object.fromEntries(told.map((sibling) => [sibling.name, sibling[field]])));
    };
    runner.output('commits', by('commit'));
    runner.output('keys', by('key'));
}

async function restore(binary) {
    const save = runner.choice('save', ['success', 'always', 'never']);
    const args = which();
    const lost = larder.lostStore(runner.input('store'));
    if (lost) {
        runner.warn(lost);
    }
    if (runner.input('need') !== '') {
        await guard(binary);
    }
    const { object } = await larder.ask(binary, 'restore', [
        ...args,
        ...runner.lines('restore-keys').flatMap((key) => option('fallback-key', key)),
        ...option('plan', runner.input('plan')),
        ...toggle('exact', runner.flag('exact')),
    ]);
    const asked = runner.input('key');
    const hit = object.outcome === 'hit' && (asked === '' || object.key === asked);
    runner.output('cache-hit', String(hit));
    runner.output('outcome', object.outcome);
    runner.output('key', object.key);
    runner.output('snapshot', object.snapshot ?? '');
    // What could not be restored is not saved either: without these the post step does nothing.
    runner.keep('binary', binary);
    runner.keep('arguments', JSON.stringify([...args, ...toggle('spare', runner.flag('spare'))]));
    runner.keep('job', runner.input('job') || process.env.GITHUB_JOB || '');
    runner.keep('restored', JSON.stringify(object));
    runner.keep('save', save);
    const what = object.outcome === 'miss' ? 'nothing is restored' : `${object.files} files, ${object.bytes} bytes`;
    runner.say(`${object.outcome} ${object.key}: ${what} in ${object.duration_ms} ms`);
}

/** The outputs of a restore that did not come to its end. */
function missed() {
    try {
        runner.output('cache-hit', 'false');
        runner.output('outcome', 'miss');
        runner.output('key', runner.input('key'));
        runner.output('snapshot', '');
    } catch (error) {
        runner.warn(`no outputs: ${error.message}`);
    }
}

const MODES = { restore, setup, guard, gc };

async function main() {
    let mode = 'restore';
    // A mode that is not understood may have been meant to be setup.
    let strict = true;
    try {
        mode = runner.choice('mode', Object.keys(MODES));
        // Other jobs build what setup resolved.
        strict = mode === 'setup';
        strict ||= runner.flag('fail-on-error');
        if (!process.env.GITHUB_OUTPUT || !process.env.GITHUB_STATE) {
            throw new larder.Unusable('this runner gives no GITHUB_OUTPUT or no GITHUB_STATE: update it to 2.300 or later');
        }
        await MODES[mode](runner.input('binary') || 'larder');
    } catch (error) {
        if (mode === 'restore') missed();
        if (strict) {
            runner.fail(error.message);
            process.exitCode = 1;
        } else {
            runner.warn(`${error.message}; the job goes on without`);
        }
    }
}

main();
