use super::*;

fn millis(median: f64) -> Millis {
    Millis { median_ms: median, min_ms: median / 2.0, max_ms: median * 2.0 }
}

fn measured(name: &str, median: f64, rounds: u32, times_rsync: Option<f64>) -> ContestantReport {
    let link_modes = BTreeMap::new();
    let measured = Measured { stats: millis(median), rounds, times_rsync, preparation: None, link_modes };
    ContestantReport { name: name.to_owned(), outcome: Outcome::Measured(measured) }
}

fn report() -> Report {
    let used = BTreeMap::from([("hardlink".to_owned(), 7000), ("copy".to_owned(), 785)]);
    let mut spare = measured("larder spare", 2.613, 5, Some(6774.2));
    let mut overlay = measured("larder overlay", 20.0, 5, Some(885.0));
    for (contestant, every_run) in [(&mut spare, true), (&mut overlay, false)] {
        if let Outcome::Measured(m) = &mut contestant.outcome {
            m.preparation = Some(Preparation { every_run, stats: millis(212.0) });
        }
    }
    if let Outcome::Measured(m) = &mut spare.outcome {
        m.link_modes = BTreeMap::from([("spare".to_owned(), 7785)]);
    }
    let row = |row: Row, contestants| RowReport { row, title: row.title(false), contestants };
    Report {
        schema_version: SCHEMA_VERSION,
        directory: "target".to_owned(),
        file_system: "ext4",
        cargo_target: true,
        files: 7785,
        directories: 900,
        symlinks: 0,
        bytes: 6_800_000_000,
        changed_files: 78,
        changed_bytes: 68_000_000,
        rounds: 5,
        cold: false,
        creation_us: 14.5,
        programs: BTreeMap::from([("rsync", Some("rsync 3.5.0".to_owned())), ("zstd", None)]),
        rows: vec![
            row(
                Row::RestoreEmpty,
                vec![
                    spare,
                    overlay,
                    ContestantReport {
                        name: "larder reflink".to_owned(),
                        outcome: Outcome::NotAvailable { link_modes: used },
                    },
                    measured("rsync -a --delete", 17_700.0, 2, Some(1.0)),
                    ContestantReport {
                        name: "tar | zstd".to_owned(),
                        outcome: Outcome::Absent { missing: vec!["zstd"] },
                    },
                ],
            ),
            row(Row::SaveNothing, vec![measured("larder auto", 50.0, 5, None)]),
        ],
    }
}

#[test]
fn text() {
    insta::assert_snapshot!(report().text(), @"
    a cargo target directory on ext4: 7,785 files, 6.8 GB, in 900 directories, 0 symbolic links; 1 % is 78 files, 68.0 MB
    whole processes, 5 rounds in rotating order; medians; larder syncs what it saves, the others do not
    rsync 3.5.0

    restore to an empty place
      contestant           median           min – max   × rsync   remarks
      larder spare        2.61 ms   1.31 ms – 5.23 ms     6,774   prepared in 212 ms before every run; spare 7,785
      larder overlay      20.0 ms   10.0 ms – 40.0 ms       885   prepared in 212 ms once
      larder reflink            –                                 not available here: hardlink 7,000, copy 785
      rsync -a --delete    17.7 s     8.85 s – 35.4 s      1.00   2 of 5 rounds, for want of disk space
      tar | zstd                –                                 not installed: zstd

    save, nothing changed
      contestant           median           min – max   × rsync   remarks
      larder auto         50.0 ms    25.0 ms – 100 ms
    ");
}

#[test]
fn slow_creation_is_told() {
    let slow = Report { creation_us: 520.4, rows: Vec::new(), ..report() };
    insta::assert_snapshot!(slow.text(), @"
    a cargo target directory on ext4: 7,785 files, 6.8 GB, in 900 directories, 0 symbolic links; 1 % is 78 files, 68.0 MB
    whole processes, 5 rounds in rotating order; medians; larder syncs what it saves, the others do not
    rsync 3.5.0
    warning: creating a file takes 520 µs here; ext4 is that slow for minutes after much was deleted, which makes everybody who copies look bad: wait five minutes and measure again
    ");
}

#[test]
fn markdown() {
    insta::assert_snapshot!(report().markdown(), @r"
    a cargo target directory on ext4: 7,785 files, 6.8 GB, in 900 directories, 0 symbolic links; 1 % is 78 files, 68.0 MB
    whole processes, 5 rounds in rotating order; medians; larder syncs what it saves, the others do not
    rsync 3.5.0

    | work | contestant | median | min – max | × rsync | remarks |
    |---|---|--:|--:|--:|---|
    | restore to an empty place | larder spare | 2.61 ms | 1.31 ms – 5.23 ms | 6,774 | prepared in 212 ms before every run; spare 7,785 |
    |  | larder overlay | 20.0 ms | 10.0 ms – 40.0 ms | 885 | prepared in 212 ms once |
    |  | larder reflink | – |  |  | not available here: hardlink 7,000, copy 785 |
    |  | rsync -a --delete | 17.7 s | 8.85 s – 35.4 s | 1.00 | 2 of 5 rounds, for want of disk space |
    |  | tar \| zstd | – |  |  | not installed: zstd |
    | save, nothing changed | larder auto | 50.0 ms | 25.0 ms – 100 ms |  |  |
    ");
}

#[test]
fn json_shape() {
    insta::assert_snapshot!(report().json().unwrap(), @r#"
    {
      "schema_version": 1,
      "directory": "target",
      "file_system": "ext4",
      "cargo_target": true,
      "files": 7785,
      "directories": 900,
      "symlinks": 0,
      "bytes": 6800000000,
      "changed_files": 78,
      "changed_bytes": 68000000,
      "rounds": 5,
      "cold": false,
      "creation_us": 14.5,
      "programs": {
        "rsync": "rsync 3.5.0",
        "zstd": null
      },
      "rows": [
        {
          "row": "restore-empty",
          "title": "restore to an empty place",
          "contestants": [
            {
              "name": "larder spare",
              "status": "measured",
              "median_ms": 2.613,
              "min_ms": 1.3065,
              "max_ms": 5.226,
              "rounds": 5,
              "times_rsync": 6774.2,
              "preparation": {
                "every_run": true,
                "median_ms": 212.0,
                "min_ms": 106.0,
                "max_ms": 424.0
              },
              "link_modes": {
                "spare": 7785
              }
            },
            {
              "name": "larder overlay",
              "status": "measured",
              "median_ms": 20.0,
              "min_ms": 10.0,
              "max_ms": 40.0,
              "rounds": 5,
              "times_rsync": 885.0,
              "preparation": {
                "every_run": false,
                "median_ms": 212.0,
                "min_ms": 106.0,
                "max_ms": 424.0
              },
              "link_modes": {}
            },
            {
              "name": "larder reflink",
              "status": "not-available",
              "link_modes": {
                "copy": 785,
                "hardlink": 7000
              }
            },
            {
              "name": "rsync -a --delete",
              "status": "measured",
              "median_ms": 17700.0,
              "min_ms": 8850.0,
              "max_ms": 35400.0,
              "rounds": 2,
              "times_rsync": 1.0,
              "preparation": null,
              "link_modes": {}
            },
            {
              "name": "tar | zstd",
              "status": "absent",
              "missing": [
                "zstd"
              ]
            }
          ]
        },
        {
          "row": "save-nothing",
          "title": "save, nothing changed",
          "contestants": [
            {
              "name": "larder auto",
              "status": "measured",
              "median_ms": 50.0,
              "min_ms": 25.0,
              "max_ms": 100.0,
              "rounds": 5,
              "times_rsync": null,
              "preparation": null,
              "link_modes": {}
            }
          ]
        }
      ]
    }
    "#);
}

#[test]
fn figures_are_short() {
    let shown = [0.0, 9.994, 42.0, 999.4, 1000.0, 17_700.0, 100_000.0].map(time);
    assert_eq!(shown, ["0.00 ms", "9.99 ms", "42.0 ms", "999 ms", "1.00 s", "17.7 s", "100.0 s"]);
    assert_eq!([0.5, 47.2, 99.0, 6774.2].map(times), ["0.50", "47.2", "99.0", "6,774"]);
    assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
}
