// Any bytes as files of conversations or tasks, one JSON object a line.
#include "fuzz_target.hpp"
#include "krul/eval/conversation_text.hpp"
#include "krul/eval/task_text.hpp"

namespace krul::fuzz {
namespace {

void read_texts(std::span<const std::byte> bytes) {
  Input input(bytes);
  if (input.byte() % 2 == 0) {
    const auto conversations = eval::parse_conversations(as_text(input.rest()));
    if (!accepted(conversations)) return;
    require(!conversations->empty(), "a file without conversations is accepted");
    for (const auto& conversation : *conversations)
      require(!conversation.messages.empty(), "a conversation has no messages");
  } else {
    const auto tasks = eval::parse_tasks(as_text(input.rest()));
    if (!accepted(tasks)) return;
    require(!tasks->empty(), "a file without tasks is accepted");
    for (const auto& task : *tasks) require(!task.answer.empty(), "a task has no answer");
  }
}

std::vector<Bytes> texts_seeds() {
  return {joined({0}, R"({"id": "x", "source": "s", "messages": [{"role": "user", "content": "a\u00e4"}], "next": "b"})"
                      "\n\n{\"messages\": [{\"role\": \"system\", \"content\": \"\"}]}\r\n"),
          joined({1}, R"({"id": "x", "context": "c", "question": "q", "answer": "a", "lead": "l", "source": "s"})"),
          joined({0}, R"({"messages": [], "x": [1e400, -0, [[[[{}]]]], true, null]})")};
}

}  // namespace

Target texts_target() {
  return {"texts", read_texts, texts_seeds};
}

}  // namespace krul::fuzz
