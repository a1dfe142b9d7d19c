#include "rounds_note.hpp"

namespace krul::cli {

std::string RoundsNote::text() const {
  std::string lines;
  if (disturbed) lines += "disturbed: others kept the machine busy; the quietest rounds there are count\n";
  if (cut_short) lines += "patience ran out before there were as many rounds as were asked for: see --patience\n";
  return lines;
}

Json RoundsNote::run(const LoadedModel& model) const {
  Json run = describe_run(model);
  run["disturbed"] = disturbed;
  run["cut_short"] = cut_short;
  return run;
}

}  // namespace krul::cli
