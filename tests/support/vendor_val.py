"""Ultralytics' own ``val``, padded as ``predict`` pads and with one class to a box as ``predict`` answers."""

from ultralytics import YOLO
from ultralytics.data import YOLODataset
from ultralytics.models.yolo.detect import val as detect_val
from ultralytics.models.yolo.obb import OBBValidator
from ultralytics.models.yolo.pose import PoseValidator
from ultralytics.models.yolo.segment import SegmentationValidator
from ultralytics.utils import nms

VALIDATORS = {"segment": SegmentationValidator, "obb": OBBValidator, "pose": PoseValidator}
MEASURES = {"segment": "seg", "obb": "box", "pose": "pose"}


def run_val(monkeypatch, task, weights, data, imgsz, folder):
    """(mAP50, mAP50-95) of the task's own measure."""

    class AsPredicted(VALIDATORS[task]):
        def build_dataset(self, img_path, mode="val", batch=None):
            size = {"imgsz": self.args.imgsz, "rect": True, "stride": int(self.stride), "pad": 0.0}
            return YOLODataset(
                img_path, batch_size=batch, hyp=self.args, augment=False, data=self.data, task=task, **size
            )

    def one_class(*arguments, **options):
        return nms_of_theirs(*arguments, **{**options, "multi_label": False})

    nms_of_theirs = nms.non_max_suppression
    monkeypatch.setattr(detect_val.nms, "non_max_suppression", one_class)
    results = YOLO(weights).val(
        validator=AsPredicted, data=data, conf=0.001, iou=0.7, imgsz=imgsz, rect=True, batch=1, workers=0,
        plots=False, project=folder, verbose=False, device="cpu",
    )  # fmt: skip
    measure = getattr(results, MEASURES[task])
    return measure.map50, measure.map
