"""The report's looks: one small style sheet, nothing from outside."""

CSS = """
:root { --ink: #1f2933; --soft: #5b6673; --line: #e2e7ed; --paper: #f6f8fa; --blue: #2563eb; --green: #0f766e;
        --red: #b42318; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink);
       background: var(--paper); margin: 0; }
main { max-width: 940px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 27px; margin: 0 0 2px; letter-spacing: -.01em; }
h2 { font-size: 18px; margin: 0 0 10px; }
h3 { font-size: 14.5px; margin: 16px 0 8px; }
p { margin: 6px 0 10px; }
.soft { color: var(--soft); }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 18px 22px; margin: 18px 0; }
.note { border-left: 4px solid var(--blue); border-radius: 4px 10px 10px 4px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 13px; }
th, td { padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
tr:last-child td { border-bottom: 0; }
table.parts td:nth-child(2) { width: 30%; }
td.n, th.n { text-align: right; white-space: nowrap; }
tr.sum td { font-weight: 600; }
.big { font-size: 22px; font-weight: 650; white-space: nowrap; }
.range { position: relative; height: 14px; min-width: 220px; background: var(--paper); border: 1px solid var(--line);
         border-radius: 7px; }
.range i { position: absolute; top: 3px; bottom: 3px; background: #bfd3fb; border-radius: 4px; }
.range b { position: absolute; top: -2px; bottom: -2px; width: 4px; margin-left: -2px; background: var(--blue);
           border-radius: 2px; }
.bar { height: 10px; background: #bfd3fb; border-radius: 3px; min-width: 1px; }
img.figure { width: 100%; display: block; margin: 8px auto; }
.strip { border-collapse: separate; border-spacing: 6px; width: auto; }
.strip td, .strip th { border: 0; padding: 0; }
.strip th.side { padding-right: 8px; text-align: right; white-space: nowrap; }
.strip th.top { text-align: center; }
.strip img { width: 168px; height: 168px; image-rendering: pixelated; border-radius: 5px; display: block; }
.won { color: var(--green); } .lost { color: var(--red); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
code { font: 13px ui-monospace, "DejaVu Sans Mono", monospace; }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""
