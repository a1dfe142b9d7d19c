#include "krul/eval/task_case.hpp"

#include "krul/model/model_chat.hpp"

namespace krul::eval {

Result<TaskCase> encode_task(const Tokenizer& tokenizer, const ChatFormat& chat, const TaskText& text) {
  const std::vector<Message> history = {
      {"user", "Here is a text. I will come back with a question about it.\n\n" + text.context},
      {"assistant", "I have read the text."}};
  const Message question{"user", text.question};
  const auto before = chat.render(history, false);
  if (!before) return propagate(before);
  auto alone = chat.render(std::span(&question, 1), true);
  if (!alone) return propagate(alone);
  return TaskCase{.id = text.id,
                  .source = text.source,
                  .history = encode_conversation(tokenizer, *before),
                  .question = tokenizer.encode(chat.render_user_turn(text.question).quote(text.lead)),
                  .answer = tokenizer.encode(text.answer, Tokenizer::Special::as_text),
                  .alone = encode_conversation(tokenizer, alone->quote(text.lead))};
}

}  // namespace krul::eval
