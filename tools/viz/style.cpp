#include "page.hpp"

namespace tinyphys::viz {

const char* const kStyle = R"css(
:root { --ground: #ffffff; --panel: #f3f4f6; --ink: #16181d; --faint: #5b6270; --line: #c8ccd4; --node: #ffffff;
  --added: #b7e4c0; --removed: #f5b8b8; --rebuilt: #f7e3a4; --hit: #1a5fd0; --chosen: #cfe0ff; color-scheme: light; }
@media (prefers-color-scheme: dark) { :root:not([data-theme="light"]) { --ground: #15171c; --panel: #1f2229;
  --ink: #e8eaee; --faint: #a3aab8; --line: #454b58; --node: #262a33; --added: #1e5c34; --removed: #7a2a2a;
  --rebuilt: #5e4c12; --hit: #7db0ff; --chosen: #2b4373; color-scheme: dark; } }
:root[data-theme="dark"] { --ground: #15171c; --panel: #1f2229; --ink: #e8eaee; --faint: #a3aab8; --line: #454b58;
  --node: #262a33; --added: #1e5c34; --removed: #7a2a2a; --rebuilt: #5e4c12; --hit: #7db0ff; --chosen: #2b4373;
  color-scheme: dark; }
* { box-sizing: border-box; }
body { margin: 0; height: 100vh; display: flex; flex-direction: column; background: var(--ground); color: var(--ink);
  font: 14px/1.4 system-ui, sans-serif; }
header, #bar { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; padding: 6px 10px; background: var(--panel); }
h1, h2 { font-size: 15px; margin: 0 12px 0 0; }
h3 { font-size: 14px; margin: 12px 0 4px; }
button, input { font: inherit; color: inherit; background: var(--ground); border: 1px solid var(--line);
  border-radius: 4px; padding: 3px 9px; }
button[aria-pressed="true"], #steps button[aria-current] { background: var(--chosen); }
:focus-visible { outline: 2px solid var(--hit); outline-offset: 1px; }
#columns { flex: 1; display: flex; min-height: 0; }
nav { width: 220px; overflow: auto; background: var(--panel); padding: 6px; }
nav h2 { margin: 8px 4px 4px; }
nav button { display: block; width: 100%; text-align: left; border-color: transparent; background: none; }
main { flex: 1; display: flex; flex-direction: column; min-width: 0; }
aside { width: 280px; overflow: auto; background: var(--panel); padding: 10px; overflow-wrap: anywhere; }
aside button { margin: 2px 2px 2px 0; }
#note { margin: 0; padding: 4px 10px; color: var(--faint); min-height: 28px; }
#picture { flex: 2; min-height: 120px; overflow: hidden; border-top: 1px solid var(--line); cursor: grab; touch-action: none; }
#picture[hidden] { display: none; }
#picture svg { width: 100%; height: 100%; display: block; }
#texts { flex: 1; overflow: auto; padding: 0 10px 10px; border-top: 1px solid var(--line); }
pre { margin: 0; font: 12px/1.45 monospace; overflow: auto; white-space: pre; }
svg text { fill: var(--ink); }
svg .node { cursor: pointer; }
svg .node polygon, svg .node ellipse, svg .node path { fill: var(--node); stroke: var(--faint); }
svg .cluster polygon { fill: none; stroke: var(--line); }
svg .edge path { stroke: var(--faint); fill: none; }
svg .edge polygon { stroke: var(--faint); fill: var(--faint); }
svg .added polygon, .key-added, pre .added { fill: var(--added); background: var(--added); }
svg .removed polygon, .key-removed, pre .removed { fill: var(--removed); background: var(--removed); }
svg .rebuilt polygon, .key-rebuilt, pre .rebuilt { fill: var(--rebuilt); background: var(--rebuilt); }
svg .node.added polygon { fill: var(--added); }
svg .node.removed polygon { fill: var(--removed); stroke-dasharray: 4 2; }
svg .node.rebuilt polygon { fill: var(--rebuilt); }
svg .node.hit polygon, svg .node.hit ellipse { stroke: var(--hit); stroke-width: 3; }
svg .node.chosen polygon, svg .node.chosen ellipse { stroke: var(--hit); stroke-width: 4; }
.key { padding: 0 6px; border-radius: 3px; color: var(--ink); }
@media (max-width: 800px) { #columns { flex-direction: column; overflow: auto; } nav, aside { width: auto; max-height: 160px; }
  main { min-height: 480px; } }
)css";

}  // namespace tinyphys::viz
