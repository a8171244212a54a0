"""The style sheets of the reports and the pictures: system fonts, light and dark, fit to print. Every text has a contrast of 4.5.

Read by the reports, the notebook's pieces and the pictures that stand alone; holds no rule of what is drawn.
"""

LIGHT = """--paper:#fdfcfa;--ink:#1c1e21;--soft:#5d6470;--rule:#e3e0da;--panel:#f5f2ec;
--champion:#3d6a9e;--challenger:#0b7a5e;--reference:#96600f;--harm:#b5362d;--muted:#767b84"""
DARK = """--paper:#15171a;--ink:#e9e7e3;--soft:#a2a8b2;--rule:#2d3036;--panel:#1d2024;
--champion:#82aee0;--challenger:#4fcaa6;--reference:#e0a958;--harm:#f0776d;--muted:#8b929c"""
_PRINTED = """--paper:#fff;--ink:#000;--soft:#444;--rule:#ccc;--panel:#f6f6f6;
--champion:#3d6a9e;--challenger:#0b7a5e;--reference:#96600f;--harm:#b5362d;--muted:#767b84"""


def colours(where: str) -> str:
    """The colours as variables of the elements `where`: by the reader's own choice, dark ink on paper."""
    return (
        f"{where}{{color-scheme:light dark;{LIGHT}}}"
        f"@media (prefers-color-scheme:dark){{{where}{{{DARK}}}}}"
        f"@media print{{{where}{{color-scheme:light;{_PRINTED}}}}}"
    )


DRAWN = """
.drawn .grid{stroke:var(--rule);stroke-width:1;fill:none}.drawn .axis{stroke:var(--soft);stroke-width:1;fill:none}
.drawn .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}.drawn .dashed{stroke-dasharray:5 4}
.drawn .level{fill:none;stroke-width:1.2;stroke-dasharray:4 4;opacity:.85}
.drawn .fine{fill:none;stroke-width:1.5;opacity:.4}.drawn .band{opacity:.16}.drawn .area{opacity:.14}.drawn .dots{opacity:.55}
.drawn .star{stroke-width:1.8}.drawn .whisker{stroke-width:3;stroke-linecap:round;fill:none;opacity:.55}
.drawn text{fill:var(--ink);font-size:11.5px;font-family:ui-sans-serif,system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif}
.drawn .tick,.drawn .name{fill:var(--soft)}.drawn .tick{font-variant-numeric:tabular-nums}
.drawn .mark,.drawn .end{font-size:11px;font-weight:600}.drawn .row,.drawn .head{font-size:12.5px;font-weight:600}
.drawn .mark,.drawn .halo{paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-linejoin:round}
.drawn .halo{stroke-width:5px}
.drawn .way{fill:none;stroke:var(--muted);stroke-width:1.2;stroke-linejoin:round}
.drawn .on{stroke:var(--harm);fill:var(--harm);opacity:1;stroke-width:3;paint-order:stroke}
.drawn .way.on{fill:none;stroke-opacity:1}
"""

PAGE = """
*{box-sizing:border-box}
html{font:17px/1.6 ui-serif,Charter,"Bitstream Charter","Iowan Old Style",Georgia,Cambria,serif;background:var(--paper);
color:var(--ink);
-webkit-text-size-adjust:100%}
body{margin:0}
main{max-width:58rem;margin:0 auto;padding:3.5rem 1.5rem 5rem}
h1,h2,.kicker,.card,table,dl,.verdict small,.three small,figcaption,details,output{font-family:ui-sans-serif,system-ui,
-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:clamp(1.5rem,3.6vw,2.15rem);line-height:1.22;letter-spacing:-.018em;font-weight:680;margin:.35rem 0 1rem;
text-wrap:balance}
h2{font-size:1.32rem;letter-spacing:-.012em;line-height:1.25;margin:0 0 .75rem;font-weight:660}
p{margin:.5rem 0 1rem;max-width:44rem}
.kicker{color:var(--soft);font-size:.8rem;letter-spacing:.02em;margin:0}
.lead{color:var(--soft)}
section{border-top:1px solid var(--rule);margin-top:3rem;padding-top:2.2rem}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(11.5rem,1fr));gap:.8rem;margin-top:1.8rem}
.card{background:var(--panel);border-radius:.6rem;padding:.9rem 1rem 1rem;display:flex;flex-direction:column;gap:.15rem}
.card span{font-size:.76rem;color:var(--soft)}
.card strong{font-size:1.45rem;letter-spacing:-.02em;line-height:1.25;font-variant-numeric:tabular-nums}
.card small{font-size:.76rem;line-height:1.4;color:var(--soft)}
figure{margin:1.4rem 0}
figure img{display:block;max-width:100%;height:auto;margin:.4rem 0 .9rem;border-radius:6px}
figure svg{display:block;width:100%;height:auto;margin:.4rem 0 .9rem;overflow:visible}
figcaption{font-size:.82rem;line-height:1.55;color:var(--soft);max-width:46rem}
.grid3{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:.6rem 1.6rem}
.three{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:.6rem 1.2rem}
.three small{color:var(--soft);font-size:.76rem}
output{position:sticky;top:0;display:block;background:var(--panel);border-radius:.6rem;padding:.5rem .9rem;font-size:.82rem;
font-variant-numeric:tabular-nums;min-height:2.1rem;z-index:1}
summary{cursor:pointer}details table{display:block;max-height:26rem;overflow:auto}
svg[data-turn]{max-width:44rem;margin-inline:auto}svg:focus-visible{outline:2px solid var(--champion)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.84rem;font-variant-numeric:tabular-nums;margin:.6rem 0 1rem}
th,td{text-align:right;padding:.42rem .6rem;border-bottom:1px solid var(--rule);white-space:nowrap;font-weight:400}
thead th{color:var(--soft);font-size:.76rem;vertical-align:bottom}
thead small{display:block;font-size:.92em}
th:first-child{text-align:left;padding-left:0}
tbody th{font-weight:600}
td.source{color:var(--soft);font-size:.78rem}
tr.chosen td,tr.chosen th{color:var(--challenger);font-weight:650}
.verdict{border-left:4px solid var(--muted);background:var(--panel);border-radius:0 .6rem .6rem 0;padding:.9rem 1.1rem;
margin:1.1rem 0}
.verdict p{margin:.25rem 0 .5rem}
.verdict strong{font-size:1.08rem}
.verdict small{color:var(--soft);font-size:.8rem;line-height:1.5;display:block}
.verdict.promoted{border-color:var(--challenger)}.verdict.rolled_back{border-color:var(--harm)}
.phases td.bar{width:55%;padding-right:0}
.bar i{display:block;height:.6rem;min-width:2px;background:var(--champion);border-radius:.2rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1.2rem;font-size:.84rem;margin:1.4rem 0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
@media (max-width:44rem){main{padding:2rem 1rem 3rem}.grid3,.three{grid-template-columns:1fr}figure{overflow-x:auto}
figure>svg{min-width:36rem}}
@media print{html{font-size:11pt}output{display:none}details table{max-height:none}
main{max-width:none;padding:0}section{break-inside:auto}figure,.verdict,table,.cards{break-inside:avoid}
h2{break-after:avoid}}
"""

CSS = colours(":root") + PAGE + DRAWN
